"""Localizers: which neurons hold what is memorized."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "localize")
