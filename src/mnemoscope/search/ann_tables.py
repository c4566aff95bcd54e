"""Tables of compressed vectors for approximate search: built once from an index, used while it stays as it is."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, write_json
from mnemoscope.run.writing import write_whole
from mnemoscope.search.shards import Index

SMALLEST = 1000  # vectors; fewer are searched exactly in a moment, and cannot train a table
PER_LIST, LISTS = 64, 4  # vectors that train one list; lists are LISTS times the root of the number of vectors
ITERATIONS = 10  # of the clustering that trains a Lance table; with more it takes minutes and finds no more
CHECKSUM, LISTED = b"mnemoscope.checksum", b"mnemoscope.lists"
VERSION = 1  # of how tables are built

Pairs = tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]


@dataclass(frozen=True)
class FaissTable:
    """Vectors of 8 bits a number in `lists` of neighbours, memory-mapped.

    `candidates` are pairs of a query and the place in the index of a vector that is probably near to it.
    """

    table: Any
    lists: int

    def candidates(self, queries: Float[np.ndarray, "Q D"], count: int, probes: int) -> Pairs:
        import faiss

        wanted = faiss.SearchParametersIVF(nprobe=probes)
        places = self.table.search(queries, count, params=wanted)[1]
        query, rank = np.nonzero(places >= 0)
        return query, places[query, rank]


@dataclass(frozen=True)
class LanceTable:
    """The same of Lance, on a disk or in object storage: vectors of a byte for each piece of about 8 numbers."""

    table: Any
    lists: int

    def candidates(self, queries: Float[np.ndarray, "Q D"], count: int, probes: int) -> Pairs:
        nearest = {"column": "vector", "q": queries, "k": count, "nprobes": probes}
        if len(queries) == 1:
            table = self.table.to_table(columns=["place", "_distance"], nearest=nearest | {"q": queries[0]})
            return np.zeros(len(table), np.int64), table["place"].to_numpy()
        table = self.table.to_table(columns=["place", "_distance"], nearest=nearest)
        return table["query_index"].to_numpy().astype(np.int64), table["place"].to_numpy()


def opened(index: Index, kind: str, uri: str | None) -> FaissTable | LanceTable:
    """The table of an index, built if there is none for the vectors that the index has now."""
    if index.count < SMALLEST:
        raise UsageError(
            f"The index has {index.count} vectors and approximate search needs {SMALLEST}; leave out --ann: exact "
            "search of so few takes a moment."
        )
    if kind == "faiss" and uri is not None:
        raise UsageError("FAISS keeps its table in the folder of the index; give a URI for Lance only.")
    folder = index.folder / "ann"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{kind}.lock"):
        return _faiss(index, folder) if kind == "faiss" else _lance(index, uri or str(folder / "vectors.lance"))


def checksum(index: Index) -> str:
    """SHA-256 over the checksums of all arrays of vectors: what a table was built from."""
    files = [(shard.array.name, dict(shard.files)[shard.array.name]) for shard in index.shards if shard.files]
    return hashlib.sha256(repr((VERSION, files)).encode()).hexdigest()


def _faiss(index: Index, folder: Path) -> FaissTable:
    try:
        import faiss
    except ImportError:
        raise UsageError("FAISS is not installed; install it with: pip install 'mnemoscope[search]'.") from None
    file, record = folder / "vectors.faiss", folder / "faiss.json"
    lists = _lists(index.count)
    made = {"checksum": checksum(index), "lists": lists}
    if not file.is_file() or not record.is_file() or read_json(record) != made:
        record.unlink(missing_ok=True)
        dimension = index.meta["identity"]["dimension"]
        table = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        table.train(_training(index, lists * PER_LIST))
        for block in index.blocks():
            table.add(np.asarray(block, np.float32))
        write_whole(file, lambda f: faiss.write_index(table, faiss.PyCallbackIOWriter(f.write)))
        write_json(record, made)
    return FaissTable(faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY), lists)


def _lance(index: Index, uri: str) -> LanceTable:
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lance
    except ImportError:
        raise UsageError("Lance is not installed; install it with: pip install 'mnemoscope[search]'.") from None

    lists = _lists(index.count)
    made = {CHECKSUM: checksum(index).encode(), LISTED: str(lists).encode()}
    try:
        table = lance.dataset(uri)
    except (ValueError, OSError) as e:
        if "not found" not in str(e):
            raise UsageError(f"No Lance table can be opened or made at {uri}: {str(e).splitlines()[0]}") from e
        return LanceTable(_new_lance(index, uri, made, lists), lists)
    if table.schema.metadata != made or not table.describe_indices():
        table = _new_lance(index, uri, made, lists)
    return LanceTable(table, lists)


def _new_lance(index: Index, uri: str, made: dict[bytes, bytes], lists: int) -> Any:
    import lance
    import pyarrow as pa

    dimension = index.meta["identity"]["dimension"]
    schema = pa.schema([("place", pa.int64()), ("vector", pa.list_(pa.float16(), dimension))], made)
    rows = pa.RecordBatchReader.from_batches(schema, _batches(index, schema))
    table = lance.write_dataset(rows, uri, mode="overwrite")
    training = {"sample_rate": PER_LIST, "max_iters": ITERATIONS}
    parts = {"num_partitions": lists, "num_sub_vectors": _parts(dimension)}
    table = table.create_index("vector", "IVF_PQ", metric="dot", **parts, **training)
    table.cleanup_old_versions(older_than=timedelta(0))
    return table


def _batches(index: Index, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for shard, block in zip(index.shards, index.blocks(), strict=True):
        if shard.count:
            places = pa.array(np.arange(shard.first, shard.first + shard.count))
            flat = pa.array(np.asarray(block).ravel())
            vectors = pa.FixedSizeListArray.from_arrays(flat, block.shape[1])
            yield pa.record_batch([places, vectors], schema=schema)


def _training(index: Index, size: int) -> Float[np.ndarray, "N D"]:
    """Vectors spread evenly over the index."""
    wanted = np.unique(np.linspace(0, index.count - 1, min(size, index.count)).astype(np.int64))
    places = (wanted[(wanted >= s.first) & (wanted < s.first + s.count)] - s.first for s in index.shards)
    return np.concatenate(
        [np.asarray(block[rows], np.float32) for block, rows in zip(index.blocks(), places, strict=True)]
    )


def _lists(count: int) -> int:
    return max(8, min(round(LISTS * count**0.5), count // PER_LIST))


def _parts(dimension: int) -> int:
    """Pieces of a vector that are compressed apart, of about 8 numbers each."""
    return next(parts for parts in range(max(1, dimension // 8), 0, -1) if dimension % parts == 0)
