"""The hub's side of the federation: the ServerApp, the round loop, the strategies."""
