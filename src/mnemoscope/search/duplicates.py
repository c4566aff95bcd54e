"""Near-duplicates in an index: exact pairs above a similarity, groups of them, how often each picture is there."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import write_json
from mnemoscope.run.writing import clean, write_whole
from mnemoscope.search.shards import Index

BLOCK = 4096  # vectors compared with as many others at a time
SCHEMA = pa.schema([("key", pa.string()), ("group", pa.int64()), ("count", pa.int64())])


@dataclass(frozen=True)
class Groups:
    """Pictures that are linked by pairs of near-duplicates.

    `group` is for each vector the place of the first one of its group, `count` the size of that group: 1 for a picture
    without a duplicate. `pairs` is how many pairs there are at or above the threshold.
    """

    group: Int[np.ndarray, " N"]
    count: Int[np.ndarray, " N"]
    pairs: int

    @property
    def first(self) -> Int[np.ndarray, " G"]:
        """The first vector of each group of at least two."""
        return np.flatnonzero((self.group == np.arange(len(self.group))) & (self.count > 1))


def duplicate_groups(
    index: Index, threshold: int | float, *, advance: Callable[[int], None] = lambda vectors: None
) -> Groups:
    """Groups of pictures of which each is at least `threshold` similar to another one of its group.

    All pairs are compared, exactly, block by block, in memory that does not grow but for one number a picture. The time
    grows with the square of the index. A picture's count is how often it is in the training data, near-copies
    included. Raises `UsageError` for a shard that is not there, and for a threshold outside 0 to 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(
            f"The threshold {threshold} is no similarity of duplicates; give a number above 0 and up to 1."
        )
    arrays = list(index.blocks())
    group = np.arange(index.count)
    pairs = 0
    for first, block in _blocks(arrays):
        for other, vectors in _blocks(arrays, up_to=first):
            near = block @ vectors.T >= np.float32(threshold)
            if other == first:
                near = np.tril(near, -1)
            one, two = np.nonzero(near)
            pairs += len(one)
            join(group, first + one, other + two)
        advance(len(block))
    group = _roots(group, group)
    return Groups(group, np.bincount(group, minlength=len(group))[group], pairs)


def run_duplicates(folder: Path | str, out: Path | str, *, threshold: int | float = 0.95) -> Json:
    """Write `duplicates.parquet`, with every picture, `duplicates.jsonl`, with those that have any, and `summary.json`.

    Each has the columns key, group (the same number for pictures of one group) and count. Returns the summary.
    """
    index, out = Index.open(folder), Path(out)
    if out.is_file():
        raise UsageError(f"{out} is a file; give a folder as --out.")
    with Progress(transient=True) as bar:
        task = bar.add_task("duplicates", total=index.count)
        groups = duplicate_groups(index, threshold, advance=lambda count: bar.advance(task, count))
    out.mkdir(parents=True, exist_ok=True)
    clean(out)
    keys = [row["key"] for shard in index.shards for row in shard.listed_rows()]
    table = pa.table([keys, groups.group, groups.count], schema=SCHEMA)
    write_whole(out / "duplicates.parquet", lambda f: pq.write_table(table, f, compression="zstd"))
    order = np.argsort(groups.group, kind="stable")
    repeated = table.take(order[groups.count[order] > 1])
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in repeated.to_pylist())
    write_whole(out / "duplicates.jsonl", lambda f: f.writelines(line.encode() for line in lines))
    summary = _summary(index, groups, threshold, table)
    write_json(out / "summary.json", summary)
    return summary


def join(group: Int[np.ndarray, " N"], one: Int[np.ndarray, " P"], two: Int[np.ndarray, " P"]) -> None:
    """Unite the groups of each pair, in place: every vector points towards the lowest of its group."""
    while len(one):
        a, b = _roots(group, one), _roots(group, two)
        apart = a != b
        one, two, a, b = one[apart], two[apart], a[apart], b[apart]
        np.minimum.at(group, np.maximum(a, b), np.minimum(a, b))


def _roots(group: Int[np.ndarray, " N"], places: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    roots = group[places]
    while (roots != group[roots]).any():
        roots = group[roots]
    return roots


def _blocks(
    arrays: Sequence[Float[np.ndarray, "_ D"]], up_to: int | None = None
) -> Iterator[tuple[int, Float[np.ndarray, "B D"]]]:
    """Vectors in float32 with the place of the first of them; those of blocks that begin at or before `up_to`."""
    first = 0
    for vectors in arrays:
        for start in range(0, len(vectors), BLOCK):
            if up_to is not None and first + start > up_to:
                return
            yield first + start, np.asarray(vectors[start : start + BLOCK], np.float32)
        first += len(vectors)


def _summary(index: Index, groups: Groups, threshold: int | float, table: pa.Table) -> Json:
    first = groups.first
    copies = int((groups.count > 1).sum())
    order = first[np.argsort(-groups.count[first], kind="stable")][:10]
    largest = table.take(order).to_pylist()
    return {
        "threshold": threshold,
        "identity": index.meta["identity"],
        "listed": index.listed,
        "pictures": index.count,
        "pairs": groups.pairs,
        "groups": len(first),
        "duplicated": copies,
        "share": copies / index.count if index.count else 0.0,
        "surplus": copies - len(first),
        "largest": [{"key": row["key"], "count": row["count"]} for row in largest],
    }
