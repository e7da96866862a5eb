"""The report of an external validation."""
