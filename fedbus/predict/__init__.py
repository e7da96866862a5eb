"""`fedbus predict`: one row of predictions for every image of a folder."""
