"""What hub and sites share: addresses, keys, the application's digest, settings files."""
