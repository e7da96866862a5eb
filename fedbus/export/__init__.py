"""`fedbus export`: a model as a bundle that runs without FedBUS."""
