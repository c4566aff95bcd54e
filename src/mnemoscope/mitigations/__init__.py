"""Mitigations at sampling time: one function a file, which changes a start or its steps."""

from mnemoscope import registry

__getattr__, __dir__ = registry.package(__name__, "mitigate")
