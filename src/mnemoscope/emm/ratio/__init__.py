"""The memorization ratio: how much of a set of images is copied."""
