"""Kills and other faults at random moments, in real processes: `make soak`, bounded to half an hour."""
