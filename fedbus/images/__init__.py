"""One file to one picture."""
