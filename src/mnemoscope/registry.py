"""Methods by kind and name: one function in one file, found by the file's name."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args, get_origin

from mnemoscope.errors import UsageError, likely

PACKAGES = {
    "score": "scores",
    "detect": "detectors",
    "explain": "explainers",
    "localize": "localizers",
    "mitigate": "mitigations",
    "caption": "captions",
    "measure": "measures",
}
OWNER = "__mnemoscope__"
Score = str | Callable[..., Any]  # a score by name, or any function of a step
Gives = Literal["tokens", "regions"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """A registered function with where it comes from and what it costs."""

    kind: str
    name: str
    function: Callable[..., Any]
    paper: str
    cost: str
    over_seeds: str = "mean"  # how the values of a prompt's seeds become the prompt's: "mean" or "max"
    steps: Any = 1  # which steps a score looks at unless it is told
    needs: tuple[str, ...] = ()  # what a measure's comparison must have
    gives: Gives = "tokens"  # what an explanation has a value for
    strength: tuple[str, tuple[Any, ...]] | None = None  # a mitigation's parameter of strength, and a usual range of it

    @property
    def summary(self) -> str:
        """First line of the docstring: the quantity in plain words."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keyword-only arguments."""
        signature = inspect.signature(self.function).parameters
        return {k: p for k, p in signature.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def method(kind: str, *, paper: str, cost: str, **about: Any) -> Callable[[F], F]:
    """Register the decorated function under its own name; its keyword-only arguments are its parameters."""

    def register(function: F) -> F:
        setattr(function, OWNER, Method(kind, function.__name__, function, paper, cost, **about))
        return function

    return register


def score(*, paper: str, cost: str, steps: Any = 1) -> Callable[[F], F]:
    """Register a score: `(step) -> Float["B"]`, differentiable, higher = more memorized.

    `steps` says which steps of a sampling it looks at by default, as in `mnemoscope.detect`.
    """
    return method("score", paper=paper, cost=cost, steps=steps)


def detector(*, paper: str, cost: str, over_seeds: str = "mean") -> Callable[[F], F]:
    """Register a detector that needs more than single steps: `(trajectory) -> Float["B"]`."""
    return method("detect", paper=paper, cost=cost, over_seeds=over_seeds)


def explainer(*, paper: str, cost: str, gives: Gives = "tokens") -> Callable[[F], F]:
    """Register an explanation: `(trajectory, *, score, steps) -> Float["B L"]`, one value a token position.

    One that gives "regions" is `(trajectory, *, steps) -> Float["B h w"]`, one value a latent pixel, never negative.
    """
    return method("explain", paper=paper, cost=cost, gives=gives)


def localizer(*, paper: str, cost: str) -> Callable[[F], F]:
    """Register a search for neurons: `(model, prompts, *, ...) -> list[Located]`, one entry a prompt."""
    return method("localize", paper=paper, cost=cost)


def mitigation(*, paper: str, cost: str, strength: tuple[str, tuple[Any, ...]] | None = None) -> Callable[[F], F]:
    """Register a mitigation: `(start) -> None` changes what a sampling begins from, or each of its steps."""
    return method("mitigate", paper=paper, cost=cost, strength=strength)


def caption(*, paper: str, strength: tuple[str, tuple[Any, ...]] | None = None) -> Callable[[F], F]:
    """Register a caption transform: `(caption, rng) -> caption`, for training and for sampling alike."""
    return method("caption", paper=paper, cost="no evaluation", strength=strength)


def measure(*, paper: str, needs: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register a measure: `(comparison) -> Measured`, a value for each generated image and a summary over them.

    `needs` names what a comparison must have for it, in the words of `Comparison.known`.
    """
    return method("measure", paper=paper, cost="no evaluation", needs=needs)


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
    """Names of a kind's methods, from the file names alone: nothing is imported."""
    folder = Path(__file__).parent / PACKAGES[kind]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def explainers(gives: Gives) -> list[str]:
    """Names of the explanations with one value a token, or one a latent pixel."""
    return [name for name in names("explain") if get("explain", name).gives == gives]


def get(kind: str, name: str) -> Method:
    """The method of that name; raises `UsageError` with the list of names if there is none."""
    if name not in names(kind):
        known = names(kind)
        raise UsageError(f"There is no {kind} method '{name}'; available: {', '.join(known)}.{likely(name, known)}")
    module = importlib.import_module(f"mnemoscope.{PACKAGES[kind]}.{name}")
    return getattr(getattr(module, name), OWNER)


def detection(name: str) -> Method:
    """A detector by name: one of the detectors, or any score."""
    return _one_of("detect", "score", name)


def stopping(name: str) -> Method:
    """A mitigation by name: one of the mitigations, or any caption transform."""
    return _one_of("mitigate", "caption", name)


def _one_of(kind: str, other: str, name: str) -> Method:
    for each in (kind, other):
        if name in names(each):
            return get(each, name)
    known = sorted(names(kind) + names(other))
    raise UsageError(f"There is no {kind} method '{name}'; available: {', '.join(known)}.{likely(name, known)}")


def scoring(score: Score) -> Callable[..., Any]:
    """The function of a step that a score's name stands for; a function stands for itself."""
    return get("score", score).function if isinstance(score, str) else score


def usual_steps(score: Score) -> Any:
    """The steps that a score looks at unless it is told; the first one for a function that is no registered score."""
    function = scoring(score)
    about = getattr(function.func if isinstance(function, partial) else function, OWNER, None)
    return 1 if about is None else about.steps


def with_score(found: Method, parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a method in which `score.name=value` has become part of its score itself."""
    own = {k.partition(".")[2]: v for k, v in parameters.items() if k.startswith("score.")}
    rest = {k: v for k, v in parameters.items() if not k.startswith("score.")}
    if not own:
        return rest
    usual = found.parameters["score"].default if "score" in found.parameters else None
    if not isinstance(name := rest.get("score", usual), str):
        raise UsageError(f"score.{next(iter(own))} was given, and {found.name} has no score by name; add score=NAME.")
    return rest | {"score": partial(get("score", name).function, **checked(get("score", name), own))}


def checked(found: Method, given: dict[str, Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """The given parameters, if the method takes them all and needs no other; raises `UsageError` if not."""
    known = [*found.parameters, *extra]
    if lacking := missing(found, given):
        raise UsageError(f"{found.name} needs the parameter {lacking[0]}, and it was not given; give {lacking[0]}.")
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise UsageError(f"{found.kind} method '{found.name}' has no parameter '{key}'; it takes: {takes}.")
        if key in found.parameters and not fits(given[key], hint := found.parameters[key].annotation):
            expected = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
            raise UsageError(f"{found.name} takes {expected} as {key}, and {given[key]!r} was given.")
    return given


def missing(found: Method, given: Iterable[str]) -> list[str]:
    """Parameters that a method cannot do without and that are not among the given ones."""
    return [k for k, p in found.parameters.items() if p.default is p.empty and k not in given]


def fits(value: Any, hint: Any) -> bool:
    """Whether a parameter's value is of its annotated type: plain types, literals and unions; others pass."""
    if hint == Score:
        return isinstance(value, str) or callable(value)
    if get_origin(hint) is Literal:
        return not isinstance(value, bool) and value in get_args(hint)
    if get_args(hint):
        return any(fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    known = isinstance(hint, type) and hint is not inspect.Parameter.empty
    return not known or (isinstance(value, hint) and not (hint is int and isinstance(value, bool)))
