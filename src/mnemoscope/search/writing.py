"""Writing one shard of an index: its pictures embedded, its files whole or not there at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from mnemoscope.pictures import Picture
from mnemoscope.pictures.source import PicturePart
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import sha256_of, write_whole
from mnemoscope.search.embedding import embedded
from mnemoscope.search.shards import DTYPE, SCHEMA, Shard

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor


@dataclass(frozen=True)
class Job:
    """A shard to build: what it is, and the parts of the source that hold its pictures and no others.

    `removed` are the places in the shard of pictures that are not to be in it.
    """

    shard: Shard
    parts: Sequence[PicturePart]
    removed: frozenset[int] = frozenset()


def write_shard(
    descriptor: "Descriptor | Callable[[], Descriptor]",
    batch: int,
    job: Job,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Embed the pictures of a shard and write its array, its table and, last, its record."""
    vectors: list[np.ndarray] = []
    rows: dict[int, tuple[Any, ...]] = {}
    made = made_by(descriptor)
    kept = [place for place in range(job.shard.listed) if place not in job.removed]
    for place, attempt in zip(kept, embedded(_pictures(job, rows), made, batch), strict=True):
        size = attempt.size or (None, None)
        vector = -1 if attempt.vector is None else len(vectors)
        if attempt.vector is not None:
            vectors.append(attempt.vector.astype(DTYPE))
        picture = attempt.picture
        told = (picture.key, picture.caption, picture.url, *size, attempt.sha256, attempt.status, attempt.reason)
        rows[place] = (*told, vector)
        advance(1)
    columns = zip(*(rows[place] for place in range(job.shard.listed)), strict=True)
    table = pa.table([[_storable(value) for value in column] for column in columns], schema=SCHEMA)
    array = np.stack(vectors) if vectors else np.empty((0, made.identity.dimension), DTYPE)
    store(job.shard, array, table)


def store(shard: Shard, array: Shaped[np.ndarray, "N D"], table: pa.Table) -> Json:
    """Write a shard's array and table and, last, its record, which says that it is whole and is given back."""
    write_whole(shard.array, lambda f: np.save(f, array, allow_pickle=False))
    write_whole(shard.rows, lambda f: pq.write_table(table, f, compression="zstd"))
    files = {file.name: sha256_of(file) for file in (shard.array, shard.rows)}
    statuses, reasons, captions = (table.column(name).to_pylist() for name in ("status", "reason", "caption"))
    record: Json = {"count": len(array), "listed": len(table), "files": files}
    record |= {"statuses": Counter(statuses), "reasons": Counter(filter(None, reasons))}
    record |= {"captioned": sum(text is not None for text in captions)}
    record |= {"generation": shard.generation} if shard.generation else {}
    write_whole(shard.record, json.dumps(record, ensure_ascii=False))
    return record


def made_by(descriptor: "Descriptor | Callable[[], Descriptor]") -> "Descriptor":
    """The descriptor itself, or the one that a function makes."""
    return descriptor if hasattr(descriptor, "identity") else descriptor()  # type: ignore[return-value]


def removed_row(key: str) -> tuple[Any, ...]:
    """The row of a picture that was taken out: nothing but its key is kept."""
    return (key, *(None,) * 5, "removed", None, -1)


def _pictures(job: Job, rows: dict[int, tuple[Any, ...]]) -> Iterator[Picture]:
    """The pictures of a shard that are to be in it; the rows of the others are entered at once."""
    for place, picture in enumerate(chain.from_iterable(job.parts)):
        if place in job.removed:
            rows[place] = removed_row(picture.key)
        else:
            yield picture


def _storable(value: Any) -> Any:
    """A value as a table can hold it: half characters, as in the name of a file, are written as escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
