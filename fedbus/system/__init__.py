"""Files, processes, locks and the terminal."""
