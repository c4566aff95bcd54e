"""Types in signatures, checked at every call: shapes by jaxtyping, what has no arrays by beartype alone.

jaxtyping wraps each function in two more, which are made when it is defined and called at every call; most functions
here take and give no array, and their checks cost a third of that.
"""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import jaxtyping

with_shapes = jaxtyping.jaxtyped


def has_shapes(hint: Any) -> bool:
    """Whether arrays may be in a type; also for one that is a text, and not looked up yet."""
    if isinstance(hint, str) or (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)):
        return True
    return any(map(has_shapes, hint if isinstance(hint, list | tuple) else get_args(hint)))


def checked(*, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator of jaxtyping's import hook: its own, or the type checker's for a function without arrays."""

    def decorate(found: Any) -> Any:
        is_plain = isinstance(found, FunctionType) and not inspect.isgeneratorfunction(found)
        if is_plain and not any(map(has_shapes, found.__annotations__.values())):
            return typechecker(found)
        return with_shapes(found, typechecker=typechecker)

    return decorate


def install() -> None:
    """Let jaxtyping's import hook decorate with `checked` what is imported from now on."""
    jaxtyping.jaxtyped = checked
