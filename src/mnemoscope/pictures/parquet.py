"""Parquet files within a budget: values that repeat, or compress well, may be thousands of times what the file has."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MOST = 2**30  # bytes of all values that are read as a whole, or of a group of rows that is far larger than the file
RATIO = 1000  # bytes out for each byte in, where there are more than that
ROWS = 64  # decoded at once: a value that repeats is held so many times


def read_whole(source: Any, columns: Sequence[str] | None = None, *, rows: int = ROWS) -> pa.Table:
    """A table, or columns of it; raises `ValueError` where its values are more than 1 GiB, before they fill the memory.

    Raises what pyarrow raises for a file that is none.
    """
    with pq.ParquetFile(plain(source)) as file:
        kept = file.schema_arrow if columns is None else pa.schema([file.schema_arrow.field(name) for name in columns])
        found, size = [], 0
        for group in range(file.num_row_groups):
            for batch in batches(file, group, columns, rows):
                size += batch.nbytes
                if size > MOST:
                    raise ValueError(f"its values take more than {MOST >> 20} MiB")
                found.append(batch)
    return pa.Table.from_batches(found, kept).combine_chunks()


def schema_of(file: Path) -> pa.Schema:
    """The columns of a file; raises what pyarrow raises for a file that is none."""
    return pq.read_schema(plain(file))


def plain(source: Any) -> Any:
    """The source; raises `ValueError` for a pipe, a device or a folder, which would be waited for or has no end."""
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ValueError("it is no plain file")
    return source


def batches(file: pq.ParquetFile, group: int, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a group, so many at once; raises `ValueError` for one far larger than it is in the file."""
    meta = file.metadata.row_group(group)
    chunks = [meta.column(k) for k in range(meta.num_columns)]
    own = [
        c
        for c in chunks
        if columns is None or not {c.path_in_schema, c.path_in_schema.split(".")[0]}.isdisjoint(columns)
    ]
    packed, unpacked = (sum(getattr(c, f"total_{kind}_size") for c in own) for kind in ("compressed", "uncompressed"))
    if unpacked > max(MOST, RATIO * packed):
        raise ValueError(f"rows of it unpack to {unpacked >> 20} MiB, more than {RATIO} times their size")
    yield from file.iter_batches(rows, [group], columns)
