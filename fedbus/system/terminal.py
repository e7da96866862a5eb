"""Colours of the terminal."""

GOOD, BAD, QUIET = "bold dodger_blue1", "bold dark_orange", "dim"
"""Colours in the terminal: blue and orange stay apart for every kind of colour blindness, and words say the same."""
