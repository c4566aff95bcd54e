"""Explanations of a score: one function a file, one value a token position."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "explain")
