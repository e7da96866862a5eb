"""Balanced rows to weights."""
