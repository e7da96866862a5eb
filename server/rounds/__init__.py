"""The round loop of a federated training."""
