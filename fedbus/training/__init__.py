"""Training: rows -> balance -> augmentation -> loop -> losses -> missing_classes."""
