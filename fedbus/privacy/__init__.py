"""Differential privacy for patients: plan -> draws of patients -> clipped gradients -> noise -> ledger."""
