"""`fedbus watch`: a page on this machine that shows a run while it trains."""
