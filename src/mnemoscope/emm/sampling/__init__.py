"""Samplers on a float64 state, and images drawn with a generator each."""
