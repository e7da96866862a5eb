"""What crosses the wire, and how it is packed; no Flower."""
