"""Prompts from text files, tables, JSON, datasets, standard input, or drawn at random from a vocabulary."""

import codecs
import csv
import hashlib
import io
import json
import os
import random
import re
import reprlib
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.errors import UsageError

CAPTION_COLUMNS = ("prompt", "caption", "text", "captions", "sentence", "title")
LABEL_COLUMNS = ("label", "memorized", "is_memorized")
KIND_COLUMNS = ("type", "kind")
LABELS = dict.fromkeys(("true", "1", "1.0", "yes", "memorized"), True)
LABELS |= dict.fromkeys(("false", "0", "0.0", "no", "ordinary", "unmemorized"), False)
IMPLIED_LABELS = {"vm": True, "tm": True, "verbatim": True, "template": True, "ordinary": False, "unseen": False}
LONGEST_PROMPT = 20_000
LONGEST_KIND = 40
RANDOM_PROMPTS, RANDOM_TOKENS = 2000, 76

Row = tuple[str, dict[str, Any]]  # where it was read ("a.csv, line 3"), its columns


@dataclass(frozen=True)
class Prompt:
    """A text to draw an image from, with what its source says about it.

    `id` depends on the text alone, but for the suffix "-2", "-3", ... of a text that comes again in the same list.
    `label` says whether it is memorized (None: unknown). `source` holds the other columns of its row, as far
    as they are text, finite numbers, truth values or lists of them.
    """

    id: str
    text: str
    label: bool | None = None
    kind: str | None = None
    source: dict[str, Any] = field(default_factory=dict, hash=False)


def as_prompts(texts: Iterable[str]) -> list[Prompt]:
    """Unlabelled prompts with the given texts, in their order."""
    listed = list(texts)
    if isinstance(texts, str) or not all(isinstance(text, str) for text in listed):
        raise UsageError(f"as_prompts was given {reprlib.repr(texts)} and expected several strings; give it a list.")
    return _with_ids(Prompt("", text) for text in listed)


def read_prompts(
    source: str | Path, *, column: str | None = None, limit: int | None = None, tokenizer: Any = None, seed: int = 0
) -> list[Prompt]:
    """The first `limit` prompts of a source, in its order.

    `source` is a .txt, .csv, .tsv, .jsonl, .ndjson, .json or .parquet file, a folder saved by datasets,
    `hub:owner/name[:split]`, `-` (standard input, one prompt a line), or `random[:N]` (N times 0 to 76 distinct tokens
    of `tokenizer`, drawn with `seed`: Wen et al., arXiv:2407.21720). `column` names the captions where no usual name
    does; a cell with a list of captions gives one prompt for each. A `type` or `kind` longer than 40 characters stays
    in `Prompt.source`. Anything unreadable raises UsageError: no row is left out.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit} and must be at least 1; leave it out to read all prompts.")
    name = str(source)
    if name.partition(":")[0] == "random":
        return as_prompts(islice(_random_texts(name, tokenizer, seed), limit))
    where = "standard input" if name == "-" else name
    rows = list(islice(_rows(name, where), limit))
    if not rows:
        raise _error(where, "there are no prompts in it; expected at least one")
    caption = _caption_column(rows, column, where)
    return _with_ids(islice((prompt for row in rows for prompt in _row_prompts(*row, caption)), limit))


def _with_ids(prompts: Iterable[Prompt]) -> list[Prompt]:
    seen: Counter[str] = Counter()
    named = []
    for prompt in prompts:
        digest = hashlib.sha256(prompt.text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[digest] += 1
        named.append(replace(prompt, id=digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"))
    return named


def _error(where: str, problem: str) -> UsageError:
    return UsageError(" ".join(f"{where}: {problem}.".splitlines()))


def _short(words: object) -> str:
    return textwrap.shorten(str(words), 300, placeholder=" ...")


def _missing(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


# Rows to prompts


def _find(names: Iterable[str], wanted: Iterable[str]) -> str:
    """The name that comes first in `wanted`, as it is spelled in `names`; empty when there is none."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.casefold(), name)
    return next((spelled[name] for name in wanted if name in spelled), "")


def _caption_column(rows: list[Row], column: str | None, where: str) -> str:
    names = dict.fromkeys(name for _, row in rows for name in row)
    listed = _short(", ".join(names)) or "unnamed"
    if column is not None and column not in names:
        raise _error(where, f"there is no column {_short(column)!r}; give one of its columns: {listed}")
    found = column or _find(names, CAPTION_COLUMNS)
    if not found:
        usual = ", ".join(CAPTION_COLUMNS)
        raise _error(where, f"no caption column ({usual}) among its columns: {listed}; name one with `column`")
    return found


def _row_prompts(where: str, row: dict[str, Any], caption: str) -> Iterator[Prompt]:
    others = {name: value for name, value in row.items() if name and name != caption}
    label = _label(others.pop(_find(others, LABEL_COLUMNS), None), where)
    kind = _kind(others.get(kind_column := _find(others, KIND_COLUMNS)))
    if kind is not None:
        del others[kind_column]
        label = IMPLIED_LABELS.get(kind.casefold()) if label is None else label
    captions = row.get(caption)
    for text in captions if isinstance(captions, list) and captions else [captions]:
        source = {name: value for name, value in others.items() if _writable(name, value)}
        yield Prompt("", _checked(text, where), label, kind, source)


def _label(value: object, where: str) -> bool | None:
    if _missing(value):
        return None
    key = str(value).strip().casefold() if isinstance(value, str | int | float) else ""
    if key not in LABELS:
        problem = f"the label {reprlib.repr(value)} says neither memorized nor ordinary"
        raise _error(where, f"{problem}; write one of {', '.join(LABELS)}, leave it empty or rename the column")
    return LABELS[key]


def _kind(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_KIND else None


def _checked(text: object, where: str) -> str:
    if _missing(text):
        raise _error(where, "the caption is empty; fill it in or remove the row")
    if not isinstance(text, str):
        raise _error(where, f"the caption {reprlib.repr(text)} is not text; expected a string, choose another column")
    if len(text) > LONGEST_PROMPT:
        raise _error(where, f"the prompt has {len(text)} characters and may have {LONGEST_PROMPT}; shorten it")
    if bad := re.search("[\0\ud800-\udfff]", text):
        raise _error(where, f"the prompt holds {ascii(bad[0])}, which is not text; remove that character")
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


# Sources to rows


def _rows(name: str, where: str) -> Iterator[Row]:
    if name.startswith("hub:"):
        return _hub_rows(name)
    if name == "-":
        return _text_rows(sys.stdin.buffer.read(), where)
    path = Path(name)
    if os.path.isdir(path):
        return _folder_rows(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None and os.path.exists(path):
        raise _error(where, f"unknown suffix {path.suffix!r}; expected one of {', '.join(READERS)}")
    data = _bytes(path, where)
    return reader(data, where) if reader and data.strip() else iter(())


def _bytes(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _error(where, "no such file; give an existing one, or hub:owner/name for a hub dataset") from None
    except (OSError, ValueError) as error:
        raise _error(where, f"the file cannot be read ({_short(error)}); give a file that can") from error


def _decode(data: bytes, where: str) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _error(f"{where}, line {line}", problem) from None
    if (nul := text.find("\0")) >= 0:
        raise _error(f"{where}, line {text.count(chr(10), 0, nul) + 1}", "a NUL byte is not text; give a text file")
    return text


def _lines(data: bytes, where: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(io.StringIO(_decode(data, where), newline=None), 1):
        if line.strip():
            yield number, line.strip()


def _text_rows(data: bytes, where: str) -> Iterator[Row]:
    for number, line in _lines(data, where):
        yield f"{where}, line {number}", {"prompt": line}


def _csv_rows(data: bytes, where: str, delimiters: str = ",;\t") -> Iterator[Row]:
    text = _decode(data, where)
    delimiter = max(delimiters, key=lambda mark: _header_quality(text, mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = (row for row in reader if row)
        header = _distinct([name.strip() for name in next(rows, [])], where)
        for row in rows:
            here = f"{where}, line {reader.line_num}"
            if len(row) != len(header):
                problem = f"{len(row)} fields where the header has {len(header)}"
                raise _error(here, f"{problem}; quote the captions that contain {delimiter!r}")
            yield here, {name: value for name, value in zip(header, row, strict=True) if name}
    except csv.Error as error:
        raise _error(f"{where}, line {reader.line_num}", f"malformed table ({error}); check its quotes") from None


def _header_quality(text: str, delimiter: str) -> tuple[bool, int]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next((row for row in reader if row), [])]
    except csv.Error:
        return False, 0
    return bool(_find(header, CAPTION_COLUMNS)), len(header)


def _distinct(names: list[str], where: str) -> list[str]:
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise _error(where, f"several columns are called {_short(twice[0])!r}; rename all but one")
    return names


def _jsonl_rows(data: bytes, where: str) -> Iterator[Row]:
    for number, line in _lines(data, where):
        yield _json_row(_parsed(line, where, number), f"{where}, line {number}")


def _json_rows(data: bytes, where: str) -> Iterator[Row]:
    document = _parsed(_decode(data, where), where)
    if isinstance(document, dict):
        if name := _find(document, (*CAPTION_COLUMNS, "prompts", "data")):
            problem = f"it is one object with the key {name!r}, which is a column's name and not a prompt"
            raise _error(where, f"{problem}; give a list of strings or objects, or an object whose keys are prompts")
        document = list(document)
    if not isinstance(document, list):
        raise _error(where, "expected a list of strings or objects, or an object whose keys are prompts; wrap it in []")
    for number, item in enumerate(document, 1):
        yield _json_row(item, f"{where}, item {number}")


def _parsed(text: str, where: str, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, reason = line + error.lineno - 1, error.msg
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number has too many digits"
    raise _error(f"{where}, line {line}", f"malformed JSON ({reason}); correct it")


def _json_row(item: object, where: str) -> Row:
    if isinstance(item, dict):
        return where, item
    if isinstance(item, str):
        return where, {"prompt": item}
    raise _error(where, f"{reprlib.repr(item)} is neither a string nor an object; give one of them")


def _parquet_rows(data: bytes, where: str) -> Iterator[Row]:
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _error(where, f"not a readable parquet file ({_short(error)}); write it again") from error
    yield from _table_rows(table, where)


def _table_rows(table: Any, where: str) -> Iterator[Row]:
    names = _distinct(table.column_names, where)
    kept = [i for i, name in enumerate(names) if _plain(table.schema.types[i]) or name.casefold() in CAPTION_COLUMNS]
    done = 0
    for batch in table.select(kept).to_batches(max_chunksize=1024):
        try:
            rows = batch.to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise _error(f"{where}, after row {done}", f"unreadable ({_short(error)}); write it again") from error
        for row in rows:
            done += 1
            yield f"{where}, row {done}", row


def _plain(kind: Any) -> bool:
    """Whether Arrow values of this type are text, numbers, truth values or lists of them."""
    kind = getattr(kind, "value_type", kind)
    named = str(kind) in ("string", "large_string", "string_view", "bool", "null")
    return named or pa.types.is_integer(kind) or pa.types.is_floating(kind)


READERS: dict[str, Callable[[bytes, str], Iterator[Row]]] = {
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".tsv": partial(_csv_rows, delimiters="\t;,"),
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}


def _hub_rows(name: str) -> Iterator[Row]:
    path, _, split = name.removeprefix("hub:").partition(":")
    if not path:
        raise _error(name, "no dataset is named; write hub:owner/name or hub:owner/name:split")
    datasets = _datasets(name)
    return _dataset_rows(lambda: datasets.load_dataset(path, split=split or None), name, ":")


def _folder_rows(path: Path) -> Iterator[Row]:
    if not any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        raise _error(str(path), "it is a folder; give a prompt file, or a folder saved by datasets")
    datasets = _datasets(str(path))
    return _dataset_rows(lambda: datasets.load_from_disk(str(path)), str(path), "/")


def _datasets(where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise _error(where, "reading it needs datasets; run pip install 'mnemoscope[data]'") from error
    return datasets


def _dataset_rows(load: Callable[[], Any], where: str, separator: str) -> Iterator[Row]:
    try:
        loaded = load()
    except Exception as error:  # the hub, the cache, the builders and their parsers each raise their own
        reason = _short(f"{type(error).__name__}: {error}")
        raise _error(where, f"datasets cannot load it ({reason}); check name, split and network") from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            splits = ", ".join(loaded)
            raise _error(where, f"it has the splits {splits}; name one, as in {where}{separator}{next(iter(loaded))}")
        (loaded,) = loaded.values()
    return _table_rows(loaded.with_format("arrow")[:], where)


def _random_texts(name: str, tokenizer: Any, seed: int) -> Iterator[str]:
    asked = re.fullmatch(r"random(?::([1-9]\d{0,8}))?", name)
    if not asked:
        raise _error(name, "the number of random prompts must be a whole number of at least 1; write random:2000")
    if tokenizer is None:
        raise _error(name, "random prompts need a tokenizer; give the model's")
    rng = random.Random(seed)
    vocabulary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    longest = max(0, min(RANDOM_TOKENS, tokenizer.model_max_length - 2, len(vocabulary)))
    for _ in range(int(asked[1] or RANDOM_PROMPTS)):
        yield tokenizer.decode(rng.sample(vocabulary, rng.randint(0, longest)))
