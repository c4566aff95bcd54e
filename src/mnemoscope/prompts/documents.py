"""Prompts in JSON documents of known shapes: lists, captions of pictures, columns, results by prompt."""

from numbers import Number
from typing import Any

from mnemoscope.pictures.columns import CAPTION_COLUMNS, find
from mnemoscope.pictures.rows import SourceRow, json_row, unreadable
from mnemoscope.pictures.shapes import rows_of, seen
from mnemoscope.run.reading import Json

LISTS = ("prompts", "captions", "data", "rows", "annotations")
KNOWN = (
    "give a list of strings or objects, captions by file, COCO's images and annotations, columns, or results by prompt"
)


def document_rows(document: Any, where: str) -> list[SourceRow]:
    """Rows of a JSON document.

    A list has a prompt in each item. In an object captions are given by the files of pictures, or by other keys that
    hold a number; COCO's annotations name images; every key may be a column; or results, which are no texts, are given
    by prompt. Raises `UsageError` for any other document, with what was seen.
    """
    if isinstance(document, dict):
        document = _listed(document)
    if isinstance(document, list):
        return [json_row(item, f"{where}, item {number}") for number, item in enumerate(document, 1)]
    raise unreadable(where, f"it is {seen(document)}, in which no prompts are found; {KNOWN}")


def _listed(document: Json) -> Any:
    """The rows of an object; the object itself where it is of no known shape."""
    if (rows := rows_of(document)) is not None:
        return rows
    if (columns := _columns(document)) is not None:
        return columns
    values = list(document.values())
    lists = [value for key, value in document.items() if key.casefold() in LISTS and _has_prompts(value)]
    if len(lists) == 1:
        return lists[0]
    if find(document, (*CAPTION_COLUMNS, *LISTS)):
        return document
    if values and all(map(_is_text, values)) and all(any(c.isdigit() for c in key) for key in document):
        return [{"file": key, "caption": value} for key, value in document.items()]
    return list(document) if _are_results(document) else document


def _columns(document: Json) -> list[Json] | None:
    """Rows of columns of one length, one of which holds captions."""
    lengths = {len(v) if isinstance(v, list) else -1 for v in document.values()}
    if not find(document, CAPTION_COLUMNS) or len(document) < 2 or len(lengths) > 1 or lengths == {-1}:
        return None
    return [dict(zip(document, row, strict=True)) for row in zip(*document.values(), strict=True)]


def _has_prompts(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, str) or (isinstance(each, dict) and find(each, CAPTION_COLUMNS)) for each in value)


def _is_text(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    return bool(several) and all(isinstance(each, str) for each in several)


def _are_results(document: Json) -> bool:
    """Whether the values are what was measured of prompts: tokens with numbers, numbers, objects of the same keys."""
    values = list(document.values())
    if values and any(values) and all(isinstance(v, list) and all(map(_is_pair, v)) for v in values):
        return True
    if not any(" " in key.strip() for key in document):
        return False
    keys = {frozenset(v) if isinstance(v, dict) else None for v in values}
    return (None not in keys and len(keys) == 1) or all(map(_is_number, values))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Number)


def _is_number(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    return all(each is None or isinstance(each, Number) for each in several)
