"""Methods from outside this package: a file, a function, or an entry point of an installed package."""

import hashlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.registry.method import OWNER, Method

GROUP = "mnemoscope.methods"
TAKES = {
    "score": "step",
    "detect": "trajectory",
    "explain": "trajectory",
    "localize": "model",
    "mitigate": "start",
    "caption": "caption",
    "measure": "comparison",
    "signal": "pictured",
}  # the name of the first argument of a method of each kind


def is_file(name: str) -> bool:
    """Whether a method's name is that of a Python file, with or without `:function` behind it."""
    return _split(name)[0].endswith(".py")


def of_file(name: str, kinds: Sequence[str]) -> Method:
    """The method of `FILE.py` or `FILE.py:function`; raises `UsageError` if there is no such file or method."""
    text, wanted = _split(name)
    file = Path(text).expanduser()
    try:
        source = file.read_bytes()
    except OSError as e:
        raise UsageError(f"There is no method file at {file} ({e.strerror}); give the path of a Python file.") from e
    digest = hashlib.sha256(source).hexdigest()
    module = _module(file.resolve(), digest)
    origin = {"file": file.name, "sha256": digest}
    return replace(_described(_chosen(module, file, wanted, kinds), kinds), origin=origin)


def of_function(function: Callable[..., Any], kinds: Sequence[str]) -> Method:
    """A function as a method of one of these kinds: as it is registered, or by the name of its first argument."""
    known = _described(function, kinds)
    if known.function.__module__.startswith("mnemoscope."):
        return known
    try:
        source = inspect.getsource(known.function).encode()
    except (OSError, TypeError):
        source = b""
    origin = {"function": f"{known.function.__module__}:{known.function.__qualname__}"}
    return replace(known, origin=origin | ({"sha256": hashlib.sha256(source).hexdigest()} if source else {}))


@cache
def installed() -> dict[str, Method]:
    """Methods of installed packages by name; one that cannot be loaded is left out with a warning that says why."""
    methods: dict[str, Method] = {}
    for entry in entry_points(group=GROUP):
        try:
            methods[entry.name] = _of_entry(entry)
        except Exception as e:  # whatever a stranger's package raises must not take every other method away
            warnings.warn(f"The method {entry.name} of {_owner(entry)} is left out: {e}", stacklevel=2)
    return methods


def _of_entry(entry: EntryPoint) -> Method:
    known = _described(entry.load(), tuple(TAKES))
    version = entry.dist.version if entry.dist else "unknown"
    return replace(known, name=entry.name, origin={"distribution": _owner(entry), "version": version})


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "a package without a name"


def _split(name: str) -> tuple[str, str]:
    file, colon, function = name.rpartition(":")
    return (file, function) if colon and file.endswith(".py") and function.isidentifier() else (name, "")


@cache
def _module(file: Path, digest: str) -> ModuleType:
    """A file run as a module, once for each content that it has had."""
    name = f"mnemoscope_method_{file.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is no Python file that can be loaded.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        raise UsageError(f"{file} cannot be loaded as a method ({type(e).__name__}: {e}); mend it.") from e
    return module


def _chosen(module: ModuleType, file: Path, wanted: str, kinds: Sequence[str]) -> Callable[..., Any]:
    functions = {n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__}
    public = {n: f for n, f in functions.items() if not n.startswith("_")}
    if wanted:
        if wanted not in functions:
            raise UsageError(f"{file} has no function '{wanted}'; it has {', '.join(public) or 'none'}.")
        return functions[wanted]
    fitting = {n: f for n, f in public.items() if _kind(f) in kinds or _registered(f)}
    marked = {n: f for n, f in fitting.items() if _registered(f)}
    for some in (marked, fitting):
        if len(some) == 1:
            return next(iter(some.values()))
    if file.stem in fitting:
        return fitting[file.stem]
    takes = " or ".join(sorted({f"({TAKES[kind]}, ...)" for kind in kinds}))
    held = f"holds {len(fitting)} of them ({', '.join(fitting)})" if fitting else "holds none"
    raise UsageError(f"A method here is a function {takes}, and {file} {held}; write {file}:NAME.")


def _registered(function: Callable[..., Any]) -> Method | None:
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, OWNER, None)


def _kind(function: Callable[..., Any], kinds: Sequence[str] = tuple(TAKES)) -> str | None:
    """The kind that a function's first argument speaks of."""
    if known := _registered(function):
        return known.kind
    first = next(iter(inspect.signature(function).parameters), None)
    return next((kind for kind in kinds if TAKES[kind] == first), None)


def _described(function: Callable[..., Any], kinds: Sequence[str]) -> Method:
    """What is registered of a function, or what it says of itself."""
    inner = function.func if isinstance(function, partial) else function
    name, kind = getattr(inner, "__name__", type(inner).__name__), _kind(function, kinds)
    if kind is None or kind not in kinds:
        is_said = f"it is a {kind} method" if kind else f"its arguments are {inspect.signature(function)}"
        wanted = " or ".join(f"{kind} ({TAKES[kind]}, ...)" for kind in kinds)
        raise UsageError(f"'{name}' is no method of the kind asked for, {wanted}: {is_said}.")
    known = _registered(function)
    if known is None:
        return Method(kind, name, function, paper="outside", cost="not said")
    return known if function is inner else replace(known, function=function)
