"""Parameters of methods: names, kinds of value, and those of a score inside another method."""

import inspect
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, get_args, get_origin

from mnemoscope.errors import UsageError
from mnemoscope.registry.lookup import get
from mnemoscope.registry.method import Method, Score


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
