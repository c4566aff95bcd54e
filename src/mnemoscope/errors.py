"""The one error that is the user's to mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """What was given, what was expected, what to do: one sentence, shown without a traceback (exit code 2)."""


def likely(name: str, known: Iterable[str]) -> str:
    """A question whether the nearest of the known names was meant, to put behind an error; empty if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" Did you mean {near[0]}?" if near else ""
