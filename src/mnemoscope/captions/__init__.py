"""Caption transforms for training and sampling: one function a file."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "caption")
