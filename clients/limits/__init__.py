"""What a site refuses of its own accord, whatever the hub's settings are."""
