"""How synthetic hospitals are drawn."""
