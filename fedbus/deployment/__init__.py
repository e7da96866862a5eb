"""Shared by hub and sites: addresses, keys, the application's digest, private folders and settings files."""
