"""Prompts rewritten in the words that a score blames, by a language model or offline, and scored again."""
