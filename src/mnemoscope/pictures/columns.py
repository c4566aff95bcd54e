"""Names by which tables call what they hold, and texts as they are compared and shown."""

import textwrap
import unicodedata
from collections.abc import Iterable

CAPTION_COLUMNS = ("prompt", "caption", "text", "captions", "sentence", "title")
LABEL_COLUMNS = ("label", "memorized", "is_memorized")


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
