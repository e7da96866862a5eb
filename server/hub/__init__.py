"""The hub: its folder, keys, gateway and runs."""
