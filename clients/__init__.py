"""One site's side of the federation: the ClientApp and what it does with an instruction."""
