"""Near-duplicates in an index: exact pairs above a similarity, groups of them, how often each picture is there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from mnemoscope.search.linking import BLOCK, LINKAGES, Linkage, vectors_at
from mnemoscope.search.shards import Index

ROUNDING = 1e-5  # of a similarity that is summed in another order than the one that links
SCHEMA = pa.schema([("key", pa.string()), ("group", pa.int64()), ("count", pa.int64())])


@dataclass(frozen=True)
class Groups:
    """Pictures that are linked by pairs of near-duplicates.

    `group` is for each vector the place of the first one of its group, `count` the size of that group: 1 for a picture
    without a duplicate. `pairs` is how many pairs at or above the threshold link them. `chained` pictures are below the
    threshold to the first one of their group, and in it through others alone.
    """

    group: Int[np.ndarray, " N"]
    count: Int[np.ndarray, " N"]
    pairs: int
    chained: int

    @property
    def first(self) -> Int[np.ndarray, " G"]:
        """The first vector of each group of at least two."""
        return np.flatnonzero((self.group == np.arange(len(self.group))) & (self.count > 1))


def duplicate_groups(
    index: Index,
    threshold: int | float,
    *,
    linkage: Linkage = "single",
    advance: Callable[[int], None] = lambda vectors: None,
) -> Groups:
    """Groups of pictures that are at least `threshold` similar: each to another of its group, or all to the first.

    With the linkage "single" all pairs link, as in the literature: pictures that are not alike may be in one group
    through others. With "star" each picture goes to the first one before it that is alike and in no other's group. All
    pairs are compared, exactly, block by block, in memory that does not grow but for one number a picture. The time
    grows with the square of the index. A picture's count is how often it is in the training data, near-copies
    included. Raises `UsageError` for a shard that is not there, and for a threshold outside 0 to 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(
            f"The threshold {threshold} is no similarity of duplicates; give a number above 0 and up to 1."
        )
    arrays = list(index.blocks())
    group, pairs = LINKAGES[linkage](arrays, float(threshold), advance)
    count = np.bincount(group, minlength=len(group))[group]
    return Groups(group, count, pairs, _below(arrays, group, float(threshold)))


def _below(arrays: Sequence[Float[np.ndarray, "_ D"]], group: Int[np.ndarray, " N"], threshold: float) -> int:
    """Pictures that are less similar than a threshold to the first of their group: chained to it through others."""
    below = 0
    members = np.flatnonzero(group != np.arange(len(group)))
    for start in range(0, len(members), BLOCK):
        places = members[start : start + BLOCK]
        similarity = np.einsum("nd,nd->n", vectors_at(arrays, places), vectors_at(arrays, group[places]))
        below += int((similarity < threshold - ROUNDING).sum())
    return below


def run_duplicates(
    folder: Path | str, out: Path | str, *, threshold: int | float = 0.95, linkage: Linkage = "single"
) -> Json:
    """Write `duplicates.parquet`, with every picture, `duplicates.jsonl`, with those that have any, and `summary.json`.

    Each has the columns key, group (the same number for pictures of one group) and count. Returns the summary.
    """
    index, out = Index.open(folder), Path(out)
    if out.is_file():
        raise UsageError(f"{out} is a file; give a folder as --out.")
    with Progress(transient=True) as bar:
        task = bar.add_task("duplicates", total=index.count)
        groups = duplicate_groups(index, threshold, linkage=linkage, advance=partial(bar.advance, task))
    out.mkdir(parents=True, exist_ok=True)
    clean(out)
    keys = [row["key"] for shard in index.shards for row in shard.listed_rows()]
    table = pa.table([keys, groups.group, groups.count], schema=SCHEMA)
    write_whole(out / "duplicates.parquet", lambda f: pq.write_table(table, f, compression="zstd"))
    order = np.argsort(groups.group, kind="stable")
    repeated = table.take(order[groups.count[order] > 1])
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in repeated.to_pylist())
    write_whole(out / "duplicates.jsonl", lambda f: f.writelines(line.encode() for line in lines))
    summary = {"linkage": linkage} | _summary(index, groups, threshold, table)
    write_json(out / "summary.json", summary)
    return summary


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
        "chained": groups.chained,
        "groups": len(first),
        "duplicated": copies,
        "share": copies / index.count if index.count else 0.0,
        "surplus": copies - len(first),
        "largest": [{"key": row["key"], "count": row["count"]} for row in largest],
    }
