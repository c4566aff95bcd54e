"""Methods by kind and name: one function in one file, found by the file's name."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args, get_origin

from mnemoscope.errors import UsageError

PACKAGES = {"score": "scores", "detect": "detectors"}
OWNER = "__mnemoscope__"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """A registered function with where it comes from and what it costs."""

    kind: str
    name: str
    function: Callable[..., Any]
    paper: str
    cost: str
    over_seeds: str  # how the values of a prompt's seeds become the prompt's: "mean" or "max"

    @property
    def summary(self) -> str:
        """First line of the docstring: the quantity in plain words."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keyword-only arguments."""
        signature = inspect.signature(self.function).parameters
        return {k: p for k, p in signature.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def method(kind: str, *, paper: str, cost: str, over_seeds: str = "mean") -> Callable[[F], F]:
    """Register the decorated function under its own name; its keyword-only arguments are its parameters."""

    def register(function: F) -> F:
        setattr(function, OWNER, Method(kind, function.__name__, function, paper, cost, over_seeds))
        return function

    return register


def score(*, paper: str, cost: str) -> Callable[[F], F]:
    """Register a score: `(step) -> Float["B"]`, differentiable, higher = more memorized."""
    return method("score", paper=paper, cost=cost)


def detector(*, paper: str, cost: str, over_seeds: str = "mean") -> Callable[[F], F]:
    """Register a detector that needs more than single steps: `(trajectory) -> Float["B"]`."""
    return method("detect", paper=paper, cost=cost, over_seeds=over_seeds)


class Package(ModuleType):
    """A package of methods, whose attributes are the functions: importing a file puts its function there."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name, value) if isinstance(value, ModuleType) else value)


def names(kind: str) -> list[str]:
    """Names of a kind's methods, from the file names alone: nothing is imported."""
    folder = Path(__file__).parent / PACKAGES[kind]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def get(kind: str, name: str) -> Method:
    """The method of that name; raises `UsageError` with the list of names if there is none."""
    if name not in names(kind):
        raise UsageError(f"There is no {kind} method '{name}'; available: {', '.join(names(kind))}.")
    module = importlib.import_module(f"mnemoscope.{PACKAGES[kind]}.{name}")
    return getattr(getattr(module, name), OWNER)


def detection(name: str) -> Method:
    """A detector by name: one of the detectors, or any score."""
    if name in names("detect"):
        return get("detect", name)
    if name in names("score"):
        return get("score", name)
    known = ", ".join(sorted(names("detect") + names("score")))
    raise UsageError(f"There is no detect method '{name}'; available: {known}.")


def checked(found: Method, given: dict[str, Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """The given parameters, if the method takes them all; raises `UsageError` with the list it takes."""
    known = [*found.parameters, *extra]
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise UsageError(f"{found.kind} method '{found.name}' has no parameter '{key}'; it takes: {takes}.")
        if key in found.parameters and not fits(given[key], hint := found.parameters[key].annotation):
            expected = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
            raise UsageError(f"{found.name} takes {expected} as {key}, and {given[key]!r} was given.")
    return given


def fits(value: Any, hint: Any) -> bool:
    """Whether a parameter's value is of its annotated type: plain types, literals and unions; others pass."""
    if get_origin(hint) is Literal:
        return not isinstance(value, bool) and value in get_args(hint)
    if get_args(hint):
        return any(fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    known = isinstance(hint, type) and hint is not inspect.Parameter.empty
    return not known or (isinstance(value, hint) and not (hint is int and isinstance(value, bool)))
