"""Signals of membership: what a model does with a picture that it may have been trained on; one function a file."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "signal")
