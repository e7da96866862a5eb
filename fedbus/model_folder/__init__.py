"""A trained model on disk, which explains itself: one format, one writer, one reader."""
