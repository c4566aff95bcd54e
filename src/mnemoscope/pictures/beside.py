"""Texts beside an image, under its name: JSON as img2dataset writes it, plain captions, class numbers."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mnemoscope.pictures.captions import Said, said_of
from mnemoscope.pictures.columns import storable, without_settings
from mnemoscope.pictures.files import TEXT, limited
from mnemoscope.pictures.names import suffix
from mnemoscope.pictures.picture import Unreadable

SIDECARS = (".json", ".txt", ".caption", ".cls")
Read = Callable[[str], bytes]


def described(read: Read, texts: Iterable[str], known: Said, column: str | None = None) -> Said:
    """What texts of these names say of their picture, behind what is said of it already; the plain one is its caption.

    A text that is none, or of more than 1 MiB, says nothing, and its picture has no caption.
    """
    held = {suffix(name): name for name in texts}
    row = _object(_text(read, held[".json"])) if ".json" in held else {}
    more = said_of({k: v for k, v in row.items() if v is not None}, column)
    plain = [text for end in (".txt", ".caption") if end in held and (text := _text(read, held[end]))]
    kind = more.kind or (_text(read, held[".cls"]) if ".cls" in held else "") or None
    return replace(
        more,
        captions=known.captions or tuple(plain[:1]) or more.captions,
        url=more.url or known.url,
        kind=known.kind or kind,
        label=known.label if more.label is None else more.label,
        seed=known.seed if more.seed is None else more.seed,
    )


def problem_of(read: Read, texts: Iterable[str]) -> Mapping[str, object]:
    """The JSON object among texts, in which a downloader says why there is no image; empty where there is none."""
    return next((_object(_text(read, name)) for name in texts if suffix(name) == ".json"), {})


def _text(read: Read, name: str) -> str:
    """A text without the settings that web interfaces write beneath a prompt; empty for what is no text."""
    try:
        data = limited(read(name), TEXT)
        text = data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except (Unreadable, OSError, UnicodeDecodeError):
        return ""  # the picture itself has a row, which says that it has no caption
    return "" if "\0" in text else storable(without_settings(text))


def _object(text: str) -> dict[str, object]:
    """The object of a JSON text; a text or a list of texts stands for captions."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    several = held if isinstance(held, list) else [held]
    if several and all(isinstance(each, str) for each in several):
        return {"caption": several}
    return held if isinstance(held, dict) else {}
