"""Scores of a sampling step: one differentiable function a file, higher = more memorized."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "score")
