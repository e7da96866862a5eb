"""Measure a GPU in one command of at most ten minutes."""
