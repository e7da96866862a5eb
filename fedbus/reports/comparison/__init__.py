"""The report of one comparison."""
