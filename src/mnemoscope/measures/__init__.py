"""Measures: what generated images have in common with references, and how good they are."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "measure")
