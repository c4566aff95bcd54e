"""Prompts from text files, tables, JSON, datasets, standard input, or drawn at random from a vocabulary."""

import hashlib
import json
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import CAPTION_COLUMNS, LABEL_COLUMNS, find, short, without_settings
from mnemoscope.pictures.counting import EmptyPrompts
from mnemoscope.pictures.rows import SourceRow, unreadable
from mnemoscope.prompts.runs import REFERENCE, Only
from mnemoscope.prompts.sources import random_texts, read_rows
from mnemoscope.run.reading import Json

KIND_COLUMNS = ("type", "kind")
LABELS = dict.fromkeys(("true", "1", "1.0", "yes", "memorized"), True)
LABELS |= dict.fromkeys(("false", "0", "0.0", "no", "ordinary", "unmemorized"), False)
IMPLIED_LABELS = {"vm": True, "tm": True, "verbatim": True, "template": True, "ordinary": False, "unseen": False}
LONGEST_PROMPT = 20_000
LONGEST_KIND = 40
NAMED = 5  # captions without text whose places are told


@dataclass(frozen=True)
class Prompt:
    """A text to draw an image from, with what its source says about it.

    `id` depends on the text alone, but for the suffix "-2", "-3", ... of a text that comes again in the same list.
    `label` says whether it is memorized (None: unknown). `source` holds the other columns of its row, as far
    as they are text, finite numbers, truth values or lists of them. `seeds` are its own, in the place of those that all
    prompts of a run have: the first of them alone, or all.
    """

    id: str
    text: str
    label: bool | None = None
    kind: str | None = None
    source: Json = field(default_factory=dict, hash=False)
    seeds: tuple[int, ...] = ()

    @property
    def reference(self) -> str:
        """The caption whose pictures are the prompt's own: its text, or what it was rewritten from."""
        place = self.source.get(REFERENCE)
        return place if isinstance(place, str) and place.strip() else self.text


class Prompts(list[Prompt]):
    """Prompts in the order of their source; `empty` are the places of captions that hold no text and were left out."""

    empty: Sequence[str] = ()

    @classmethod
    def of(cls, chosen: Iterable[Prompt], *read: Sequence[Prompt]) -> "Prompts":
        """Some prompts of those that were read, with all that were left out there."""
        own = cls(chosen)
        own.empty = [place for each in read if isinstance(each, Prompts) for place in each.empty]
        return own


def left_out(prompts: Sequence[Prompt]) -> dict[str, EmptyPrompts]:
    """What a summary says of captions without text that were left out; nothing where there were none."""
    empty = prompts.empty if isinstance(prompts, Prompts) else ()
    return {"empty_prompts": {"count": len(empty), "first": list(empty[:NAMED])}} if empty else {}


def as_prompts(texts: Iterable[str]) -> Prompts:
    """Unlabelled prompts with the given texts, in their order."""
    listed = list(texts)
    if isinstance(texts, str) or not all(isinstance(text, str) for text in listed):
        raise UsageError(f"as_prompts was given {reprlib.repr(texts)} and expected several strings; give it a list.")
    return _with_ids(Prompt("", text) for text in listed)


def read_prompts(
    source: str | Path,
    *,
    column: str | None = None,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    only: Only | None = None,
) -> Prompts:
    """The first `limit` prompts of a source, in its order.

    `source` is a .txt, .csv, .tsv, .jsonl, .ndjson, .json or .parquet file, pictures with captions as `read_pictures`
    takes them (a folder, .zip, .tar), a folder saved by datasets, the folder of a run, of which `only` keeps some (see
    `run_rows`), `hub:owner/name[:split]`, `bundled:laion-copied` (twelve captions of LAION that Stable Diffusion 1.4
    copies: Somepalli et al., arXiv:2305.20086), `-` (standard input, one prompt a line), or `random[:N]` (N times 0 to
    76 distinct tokens of `tokenizer`, drawn with `seed`: Wen et al., arXiv:2407.21720). `column` names the captions
    where no usual name does; a cell with a list of captions gives one prompt for each. A `type` or `kind` longer than
    40 characters stays in `Prompt.source`. Captions without any text are left out and listed in `empty`. Anything
    unreadable raises `UsageError`.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit} and must be at least 1; leave it out to read all prompts.")
    limit = None if limit is None else min(limit, sys.maxsize)
    name = str(source)
    if name.partition(":")[0] == "random":
        return as_prompts(islice(random_texts(name, tokenizer, seed), limit))
    where = "standard input" if name == "-" else name
    left = read_rows(name, where, column, only)
    rows = list(islice(left, limit))
    if not rows:
        raise unreadable(where, "there are no prompts in it; expected at least one")
    caption = _caption_column(rows, column, where)
    empty: list[str] = []
    every = (prompt for row in chain(rows, left) for prompt in _row_prompts(*row, caption, empty))
    prompts = _with_ids(islice(every, limit))
    if not prompts:
        raise unreadable(where, f"none of its {len(empty)} rows has a caption; fill them in")
    prompts.empty = empty
    return prompts


def _with_ids(prompts: Iterable[Prompt]) -> Prompts:
    seen: Counter[str] = Counter()
    named = Prompts()
    for prompt in prompts:
        digest = hashlib.sha256(prompt.text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[digest] += 1
        named.append(replace(prompt, id=digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"))
    return named


def _missing(value: object) -> bool:
    return value is None or value == [] or value != value or (isinstance(value, str) and not value.strip())


def _caption_column(rows: list[SourceRow], column: str | None, where: str) -> str:
    names = dict.fromkeys(name for _, row in rows for name in row)
    listed = short(", ".join(names)) or "unnamed"
    if column is not None and column not in names:
        raise unreadable(where, f"there is no column {short(column)!r}; give one of its columns: {listed}")
    column_name = column or find(names, CAPTION_COLUMNS)
    if not column_name:
        usual = ", ".join(CAPTION_COLUMNS)
        raise unreadable(where, f"no caption column ({usual}) among its columns: {listed}; name one with `column`")
    return column_name


def _row_prompts(where: str, row: Json, caption: str, empty: list[str]) -> Iterator[Prompt]:
    """The prompts of a row; where a caption holds no text, its place is noted."""
    others = {name: value for name, value in row.items() if name and name != caption}
    label = _label(others.pop(find(others, LABEL_COLUMNS), None), where)
    kind = _kind(others.get(kind_column := find(others, KIND_COLUMNS)))
    if kind is not None:
        del others[kind_column]
        label = IMPLIED_LABELS.get(kind.casefold()) if label is None else label
    captions = row.get(caption)
    for given in captions if isinstance(captions, list) and captions else [captions]:
        text = without_settings(given) if isinstance(given, str) else given
        if _missing(text):
            empty.append(where)
            continue
        source = {name: value for name, value in others.items() if _writable(name, value)}
        yield Prompt("", _checked(text, where), label, kind, source)


def _label(value: object, where: str) -> bool | None:
    if _missing(value):
        return None
    key = str(value).strip().casefold() if isinstance(value, str | int | float) else ""
    if key not in LABELS:
        problem = f"the label {reprlib.repr(value)} says neither memorized nor ordinary"
        raise unreadable(where, f"{problem}; write one of {', '.join(LABELS)}, leave it empty or rename the column")
    return LABELS[key]


def _kind(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_KIND else None


def _checked(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise unreadable(
            where, f"the caption {reprlib.repr(text)} is not text; expected a string, choose another column"
        )
    if len(text) > LONGEST_PROMPT:
        raise unreadable(where, f"the prompt has {len(text)} characters and may have {LONGEST_PROMPT}; shorten it")
    if bad := re.search("[\0\ud800-\udfff]", text):
        raise unreadable(where, f"the prompt holds {ascii(bad[0])}, which is not text; remove that character")
    return text


def _writable(name: str, value: object) -> bool:
    """Whether JSON in UTF-8 can hold this column: finite numbers, truth values, text, or a list of them."""
    if not all(isinstance(item, str | int | float | None) for item in (value if isinstance(value, list) else [value])):
        return False
    try:
        json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True
