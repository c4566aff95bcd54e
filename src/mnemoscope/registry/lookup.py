"""Methods by kind and name: those of this package by their file names, those from outside by where they are."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mnemoscope.errors import UsageError, likely
from mnemoscope.registry import outside
from mnemoscope.registry.method import OWNER, Gives, Method, Score

PACKAGES = {
    "score": "scores",
    "detect": "detectors",
    "explain": "explainers",
    "localize": "localizers",
    "mitigate": "mitigations",
    "caption": "captions",
    "measure": "measures",
    "signal": "signals",
}
Name = str | Callable[..., Any]  # a method by name, by file, or the function itself


class Package(ModuleType):
    """A package of methods, whose attributes are the functions: importing a file puts its function there."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name, value) if isinstance(value, ModuleType) else value)


def package(name: str, kind: str) -> tuple[Callable[[str], Callable[..., Any]], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package of methods: its functions by name, imported on first use."""
    sys.modules[name].__class__ = Package

    def attribute(wanted: str) -> Callable[..., Any]:
        if wanted.startswith("_") or wanted not in names(kind):
            raise AttributeError(wanted)
        return get(kind, wanted).function

    return attribute, lambda: names(kind)


def names(kind: str) -> list[str]:
    """Names of a kind's methods: this package's, by their file names, and those of installed packages."""
    return sorted({*_own(kind), *(name for name, method in outside.installed().items() if method.kind == kind)})


@cache
def _own(kind: str) -> tuple[str, ...]:
    folder = Path(__file__).parents[1] / PACKAGES[kind]
    return tuple(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def explainers(gives: Gives) -> list[str]:
    """Names of the explanations with one value a token, or one a latent pixel."""
    return [name for name in names("explain") if get("explain", name).gives == gives]


def get(kind: str, name: Name) -> Method:
    """The method of that name or file, or that function; raises `UsageError` with the list of names if none is."""
    return _of((kind,), name)


def detection(name: Name) -> Method:
    """A detector by name: one of the detectors, or any score."""
    return _of(("detect", "score"), name)


def stopping(name: Name) -> Method:
    """A mitigation by name: one of the mitigations, or any caption transform."""
    return _of(("mitigate", "caption"), name)


def _of(kinds: tuple[str, ...], name: Name) -> Method:
    if not isinstance(name, str):
        return outside.of_function(name, kinds)
    if outside.is_file(name):
        return outside.of_file(name, kinds)
    for kind in kinds:
        if name in _own(kind):
            module = importlib.import_module(f"mnemoscope.{PACKAGES[kind]}.{name}")
            return getattr(getattr(module, name), OWNER)
    registered = outside.installed().get(name)
    if registered is not None and registered.kind in kinds:
        return registered
    known = sorted(each for kind in kinds for each in names(kind))
    raise UsageError(f"There is no {kinds[0]} method '{name}'; available: {', '.join(known)}.{likely(name, known)}")


def scoring(score: Score) -> Callable[..., Any]:
    """The function of a step that a score's name stands for; a function stands for itself."""
    return get("score", score).function if isinstance(score, str) else score


def about(function: Callable[..., Any]) -> Method | None:
    """The method that a function is, some of its parameters given or not; None for any other function."""
    return getattr(function.func if isinstance(function, partial) else function, OWNER, None)


def usual_steps(score: Score) -> Any:
    """The steps that a score looks at unless it is told; the first one for a function that is no registered score."""
    method = about(scoring(score))
    return 1 if method is None else method.steps
