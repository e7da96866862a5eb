"""Studies on one machine or a Ray cluster: the arms, their comparison, benchmarks, study files."""
