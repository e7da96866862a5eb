"""Measurements: each prints ratios taken side by side in one run, with the machine beside them."""
