"""Writing one shard of an index: its pictures embedded, its files whole or not there at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.pictures import Picture
from mnemoscope.pictures.source import PicturePart
from mnemoscope.run.writing import sha256_of, write_whole
from mnemoscope.search.embedding import embedded
from mnemoscope.search.shards import DTYPE, SCHEMA, Shard

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor


@dataclass(frozen=True)
class Job:
    """A shard to build: what it is, and the parts of the source that hold its pictures and no others."""

    shard: Shard
    parts: Sequence[PicturePart]


def write_shard(
    descriptor: "Descriptor | Callable[[], Descriptor]",
    batch: int,
    job: Job,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Embed the pictures of a shard and write its array, its table and, last, its record."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    vectors: list[np.ndarray] = []
    made = made_by(descriptor)
    for attempt in embedded(_pictures(job.parts), made, batch):
        width, height = attempt.size or (None, None)
        place = -1 if attempt.vector is None else len(vectors)
        if attempt.vector is not None:
            vectors.append(attempt.vector.astype(DTYPE))
        row = (attempt.picture.key, attempt.picture.caption, attempt.picture.url, width, height, attempt.sha256)
        for name, value in zip(SCHEMA.names, (*row, attempt.status, attempt.reason, place), strict=True):
            columns[name].append(_storable(value))
        advance(1)
    array = np.stack(vectors) if vectors else np.empty((0, made.identity.dimension), DTYPE)
    table = pa.table(columns, SCHEMA)
    shard = job.shard
    write_whole(shard.array, lambda f: np.save(f, array, allow_pickle=False))
    write_whole(shard.rows, lambda f: pq.write_table(table, f, compression="zstd"))
    files = {file.name: sha256_of(file) for file in (shard.array, shard.rows)}
    counts = {"statuses": Counter(columns["status"]), "reasons": Counter(filter(None, columns["reason"]))}
    told = {"captioned": sum(text is not None for text in columns["caption"])}
    record = {"count": len(array), "listed": len(table), "files": files, **counts, **told}
    write_whole(shard.record, json.dumps(record, ensure_ascii=False))


def made_by(descriptor: "Descriptor | Callable[[], Descriptor]") -> "Descriptor":
    """The descriptor itself, or the one that a function makes."""
    return descriptor if hasattr(descriptor, "identity") else descriptor()  # type: ignore[return-value]


def _pictures(parts: Iterable[PicturePart]) -> Iterator[Picture]:
    for part in parts:
        yield from part


def _storable(value: Any) -> Any:
    """A value as a table can hold it: half characters, as in the name of a file, are written as escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
