"""The run folder on disk: settings, environment, checkpoints, and the state that a site keeps for itself."""
