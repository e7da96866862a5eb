"""What one hospital can do alone: read images, split, balance, train, evaluate, report; no Flower, no Ray."""
