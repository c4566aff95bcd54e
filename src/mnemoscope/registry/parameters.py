"""Parameters of methods: names, kinds of value, and those of a score inside another method."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args, get_origin

from mnemoscope.errors import UsageError
from mnemoscope.registry.lookup import get
from mnemoscope.registry.method import Method, Parameters, Score


def with_score(method: Method, parameters: Parameters) -> Parameters:
    """Parameters of a method in which `score.name=value` has become part of its score itself."""
    of_score = {k.partition(".")[2]: v for k, v in parameters.items() if k.startswith("score.")}
    rest = {k: v for k, v in parameters.items() if not k.startswith("score.")}
    if not of_score:
        return rest
    usual = method.parameters["score"].default if "score" in method.parameters else None
    if not isinstance(name := rest.get("score", usual), str):
        raise UsageError(
            f"score.{next(iter(of_score))} was given, and {method.name} has no score by name; add score=NAME."
        )
    return rest | {"score": partial(get("score", name).function, **checked(get("score", name), of_score))}


def parted(methods: Sequence[Method], parameters: Mapping[str, Any], said: str = "") -> list[Parameters]:
    """Each method's own of all parameters, which are given as `name=value` or as `method.name=value`.

    Raises `UsageError` for a parameter that none of them takes, or that several take and that names none of them, and
    for a method that is given twice; `said` stands before the parameter's name there.
    """
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise UsageError(f"A {_kind(methods)} was given twice ({', '.join(names)}); give each once.")
    own: dict[str, Parameters] = {name: {} for name in names}
    for key, value in parameters.items():
        owner, _, rest = key.partition(".")
        if owner in own and rest:
            own[owner][rest] = value
            continue
        takers = [method.name for method in methods if owner in takes(method)]
        if len(takers) != 1:
            which = f"{' and '.join(takers)} take it: write {takers[0]}.{key}=" if takers else "none of them takes it"
            raise UsageError(f"{said}{key} was given for {', '.join(names) or 'no ' + _kind(methods)}, and {which}.")
        own[takers[0]][key] = value
    return list(own.values())


def takes(method: Method) -> list[str]:
    """The names of a method's parameters; of a score also which steps it looks at."""
    return [*method.parameters, *(["steps"] if method.kind == "score" else [])]


def _kind(methods: Sequence[Method]) -> str:
    return "method" if any(method.kind in ("score", "detect") for method in methods) else "mitigation"


def checked(method: Method, given: Parameters, extra: tuple[str, ...] = ()) -> Parameters:
    """The given parameters, if the method takes them all and needs no other; raises `UsageError` if not."""
    known = [*method.parameters, *extra]
    if lacking := missing(method, given):
        raise UsageError(f"{method.name} needs the parameter {lacking[0]}, and it was not given; give {lacking[0]}.")
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise UsageError(f"{method.kind} method '{method.name}' has no parameter '{key}'; it takes: {takes}.")
        if key in method.parameters and not fits(given[key], hint := method.parameters[key].annotation):
            expected = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
            raise UsageError(f"{method.name} takes {expected} as {key}, and {given[key]!r} was given.")
    return given


def missing(method: Method, given: Iterable[str]) -> list[str]:
    """Parameters that a method cannot do without and that are not among the given ones."""
    return [k for k, p in method.parameters.items() if p.default is p.empty and k not in given]


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
