"""The one error that is the user's to mend, and texts as a terminal may show them."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

STEERING = {"Cc", "Cs", "Zl", "Zp"}  # control characters, half characters, line and paragraph breaks
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # of the writing direction


class UsageError(ValueError):
    """What was given, what was expected, what to do: one sentence, shown without a traceback (exit code 2)."""


def likely(name: str, known: Iterable[str]) -> str:
    """A question whether the nearest of the known names was meant, to put behind an error; empty if none is near."""
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; none where no one is near."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.75)), None)


def plain(text: str) -> str:
    """The text on one line, without characters that steer a terminal or turn the writing direction."""
    kept = (" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or unicodedata.category(c) not in STEERING)
    return "".join(c for c in kept if c not in TURNING)
