"""The settings of one comparison: schema, loading, error messages and presets."""
