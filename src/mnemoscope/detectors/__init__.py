"""Detectors that need more than single steps: one function a file, higher = more memorized."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "detect")
