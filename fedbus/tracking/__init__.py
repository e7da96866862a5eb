"""Sends a run's figures to TensorBoard or MLflow while it trains (setting `track`)."""
