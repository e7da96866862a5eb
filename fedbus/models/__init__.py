"""Model states, architectures, start weights and BatchNorm policies."""
