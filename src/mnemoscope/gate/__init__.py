"""A verdict that a release can hang on: limits written beforehand, held against the rows of finished runs."""
