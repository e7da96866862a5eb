"""The report of `fedbus hub evaluate`: one model at every site of a hub."""
