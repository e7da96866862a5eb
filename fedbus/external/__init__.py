"""External validation: models on a labelled dataset that took no part in their training."""
