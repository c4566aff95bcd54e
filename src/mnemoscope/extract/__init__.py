"""Prompts that draw memorized images, of a model that nobody has a list for; and copies without prompts."""
