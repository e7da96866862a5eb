"""What a site can do without others: read images, split, balance, train, evaluate, report; no Flower, no Ray."""
