"""Images drawn from trained networks."""
