"""The settings of one comparison."""
