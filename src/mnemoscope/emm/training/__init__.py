"""Networks trained from scratch, their averages, snapshots and scores."""
