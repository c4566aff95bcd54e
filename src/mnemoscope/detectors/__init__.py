"""Detectors that need more than single steps: one function a file, higher = more memorized."""

import sys
from collections.abc import Callable
from typing import Any

from mnemoscope import registry

sys.modules[__name__].__class__ = registry.Package


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_") or name not in registry.names("detect"):
        raise AttributeError(name)
    return registry.get("detect", name).function


def __dir__() -> list[str]:
    return registry.names("detect")
