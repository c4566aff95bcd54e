"""Where prompts come from: rows of columns from files, datasets and standard input, or texts drawn at random."""

import glob
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import CAPTION_COLUMNS, LABEL_COLUMNS, short
from mnemoscope.pictures.parquet import read_whole
from mnemoscope.pictures.reading import archive, open_source
from mnemoscope.pictures.rows import (
    SourceRow,
    csv_rows,
    decode,
    distinct,
    jsonl_rows,
    parsed,
    text_rows,
    unreadable,
)
from mnemoscope.pictures.tables import on_hub
from mnemoscope.prompts.bundled import PREFIX, bundled_rows
from mnemoscope.prompts.documents import document_rows
from mnemoscope.prompts.runs import Only, is_run, run_rows
from mnemoscope.run.reading import Json

RANDOM_PROMPTS, RANDOM_TOKENS = 2000, 76


def read_rows(name: str, where: str, column: str | None = None, only: Only | None = None) -> Iterator[SourceRow]:
    """Rows of a source; of pictures with their captions in the column, or in `caption`; of a run its prompts."""
    if is_run(Path(name)):
        return run_rows(Path(name), only)
    if only is not None:
        raise unreadable(where, f"it is no run, and --only {only} is about one; leave it out")
    if name.startswith("hub:"):
        return _hub_rows(name)
    if name.startswith(PREFIX):
        return bundled_rows(name)
    if name == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise unreadable(where, "standard input is closed; give a file, or pipe the prompts in")
        return text_rows(sys.stdin.buffer.read(), where)
    path = Path(name)
    if os.path.isdir(path) and _is_saved(path):
        return _saved_rows(path)
    if os.path.isdir(path) or archive(name) in (".zip", ".tar") or (glob.has_magic(name) and not path.exists()):
        return _picture_rows(name, column)
    reader = READERS.get(path.suffix.lower())
    if reader is None and os.path.exists(path):
        raise unreadable(where, f"unknown suffix {path.suffix!r}; expected one of {', '.join(READERS)}")
    data = _bytes(path, where)
    return reader(data, where) if reader and data.strip() else iter(())


def refuse_absent(name: str) -> None:
    """Raise what reading would for a file of prompts that is not there; other sources may be anywhere."""
    path = Path(name)
    if path.suffix.lower() in READERS and not (":" in name or glob.has_magic(name) or os.path.lexists(path)):
        raise _absent(name)


def _absent(where: str) -> UsageError:
    return unreadable(where, "no such file; give an existing one, or hub:owner/name for a hub dataset")


def _bytes(path: Path, where: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, and a device has no end
        raise unreadable(where, "it is no plain file but a pipe or a device; give a file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _absent(where) from None
    except (OSError, ValueError) as error:
        raise unreadable(where, f"the file cannot be read ({short(error)}); give a file that can") from error


def _json_rows(data: bytes, where: str) -> Iterator[SourceRow]:
    yield from document_rows(parsed(decode(data, where), where), where)


def _parquet_rows(data: bytes, where: str) -> Iterator[SourceRow]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        kept = None if any("." in name for name in file.schema_arrow.names) else _kept(file.schema_arrow, where)
        table = read_whole(pa.BufferReader(data), kept)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(where, f"not a readable parquet file ({short(error)}); write it again") from error
    yield from _table_rows(table, where)


def _table_rows(table: Any, where: str) -> Iterator[SourceRow]:
    kept = _kept(table.schema, where)
    done = 0
    for batch in table.select(kept).to_batches(max_chunksize=1024):
        try:
            rows = batch.to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise unreadable(f"{where}, after row {done}", f"unreadable ({short(error)}); write it again") from error
        for row in rows:
            done += 1
            yield f"{where}, row {done}", {name: _number(value) for name, value in row.items()}


def _number(value: Any) -> Any:
    """Decimal fractions, in lists too, as whole numbers or floats; anything else as it is."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def _kept(schema: Any, where: str) -> list[str]:
    """Columns of texts, numbers and the like, and whatever is called caption or label; not those of images."""
    names, called = distinct(schema.names, where), {*CAPTION_COLUMNS, *LABEL_COLUMNS}
    return [n for n, kind in zip(names, schema.types, strict=True) if _plain(kind) or n.casefold() in called]


def _plain(kind: Any) -> bool:
    """Whether Arrow values of this type are text, numbers, truth values or lists of them."""
    kind = getattr(kind, "value_type", kind)
    named = str(kind) in ("string", "large_string", "string_view", "bool", "null")
    return named or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


READERS: dict[str, Callable[[bytes, str], Iterator[SourceRow]]] = {
    ".txt": text_rows,
    ".csv": csv_rows,
    ".tsv": partial(csv_rows, delimiters="\t;,"),
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}


def _hub_rows(name: str) -> Iterator[SourceRow]:
    datasets = _datasets(name)
    path, split = on_hub(name)
    return _dataset_rows(lambda: datasets.load_dataset(path, split=split or None), name, ":")


def _picture_rows(name: str, column: str | None) -> Iterator[SourceRow]:
    """The captions of pictures, of which none is opened."""
    for picture in open_source(name, column=column):
        told: Json = {"file": picture.key, "url": picture.url, "kind": picture.kind, "label": picture.label}
        told |= {"seed": picture.seed}
        captions = {column or "caption": list(picture.captions) or None}
        yield picture.key, captions | {key: value for key, value in told.items() if value is not None}


def _is_saved(path: Path) -> bool:
    return any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json"))


def _saved_rows(path: Path) -> Iterator[SourceRow]:
    datasets = _datasets(str(path))
    return _dataset_rows(lambda: datasets.load_from_disk(str(path)), str(path), "/")


def _datasets(where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise unreadable(where, "reading it needs datasets; run pip install 'mnemoscope[data]'") from error
    return datasets


def _dataset_rows(load: Callable[[], Any], where: str, separator: str) -> Iterator[SourceRow]:
    try:
        loaded = load()
    except Exception as error:  # the hub, the cache, the builders and their parsers each raise their own
        reason = short(f"{type(error).__name__}: {error}")
        raise unreadable(where, f"datasets cannot load it ({reason}); check name, split and network") from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            splits = ", ".join(loaded)
            raise unreadable(
                where, f"it has the splits {splits}; name one, as in {where}{separator}{next(iter(loaded))}"
            )
        (loaded,) = loaded.values()
    return _table_rows(loaded.with_format("arrow")[:], where)


def random_texts(name: str, tokenizer: Any, seed: int) -> Iterator[str]:
    """Texts of random tokens, always the same for a seed: `random`, or `random:N` for N of them."""
    asked = re.fullmatch(r"random(?::([1-9]\d{0,8}))?", name)
    if not asked:
        raise unreadable(name, "the number of random prompts must be a whole number of at least 1; write random:2000")
    if tokenizer is None:
        raise unreadable(name, "random prompts need a tokenizer; give the model's")
    rng = random.Random(seed)
    vocabulary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    longest = max(0, min(RANDOM_TOKENS, tokenizer.model_max_length - 2, len(vocabulary)))
    for _ in range(int(asked[1] or RANDOM_PROMPTS)):
        yield tokenizer.decode(rng.sample(vocabulary, rng.randint(0, longest)))
