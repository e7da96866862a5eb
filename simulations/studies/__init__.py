"""Studies: grids of settings, their cells and results."""
