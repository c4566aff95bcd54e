"""What methods of all kinds share: their call by name, thresholds, gates, descents."""
