"""Names by which tables call what they hold, and texts as they are compared and shown."""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

CAPTION_COLUMNS = ("prompt", "caption", "text", "captions", "sentence", "title")
LABEL_COLUMNS = ("label", "memorized", "is_memorized")
SETTINGS = re.compile(r"^(?=Negative prompt: .*\n+Steps: \d+, |Steps: \d+, Sampler: )", re.MULTILINE | re.DOTALL)
UNWANTED, STEPS = "Negative prompt:", re.compile(r"Steps: \d+, \w[\w ]*: ")  # how lines of settings begin


def find(names: Iterable[str], wanted: Iterable[str]) -> str:
    """The name that comes first in `wanted`, as it is spelled in `names`; empty when there is none."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.casefold(), name)
    return next((spelled[name] for name in wanted if name in spelled), "")


def short(words: object) -> str:
    """Words cut to 300 characters, for a message."""
    return textwrap.shorten(str(words), 300, placeholder=" ...")


def folded(caption: str) -> str:
    """A caption as it is compared: composed characters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", caption).split())


def storable(text: str) -> str:
    """A text as files and terminals can hold it: half characters, as in names that are no UTF-8, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_settings(text: str) -> str:
    """A caption without the settings that web interfaces write beneath it: what is unwanted, steps, sampler."""
    return SETTINGS.split(text, maxsplit=1)[0].strip()


def settings_lines(lines: Sequence[tuple[int, str]]) -> set[int]:
    """The numbers of those lines, among numbered ones, that are such settings.

    What is unwanted may have several lines, up to that of the steps, with no empty line between.
    """
    found: set[int] = set()
    open_from: int | None = None
    for place, (number, line) in enumerate(lines):
        if place and lines[place - 1][0] != number - 1:
            open_from = None
        if line.startswith(UNWANTED):
            found.add(number)
            open_from = number
        elif STEPS.match(line):
            found |= set(range(number if open_from is None else open_from, number + 1))
            open_from = None
    return found
