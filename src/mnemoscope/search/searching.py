"""Exact search of an index: the pictures nearest to queries, in one pass over its shards, and what was not searched."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.runner import map_shards
from mnemoscope.search.shards import Damaged, Index, Shard
from mnemoscope.search.topk import Result, TopK, merge


@dataclass(frozen=True)
class Gap:
    """A shard that could not be searched: its pictures were compared with no query."""

    shard: str
    reason: str
    listed: int


@dataclass(frozen=True)
class Found:
    """For each query its nearest pictures, best first: score, place of the vector in the index (-1: there are no more).

    `searched` of the `listed` pictures of the source were compared: neither those without a vector nor those in gaps.
    """

    scores: Float[np.ndarray, "Q k"]
    places: Int[np.ndarray, "Q k"]
    searched: int
    listed: int
    gaps: tuple[Gap, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the listed pictures that were compared with the queries."""
        return self.searched / self.listed if self.listed else 0.0


def search_index(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    k: int,
    *,
    runner: Literal["local", "ray"] = "local",
    advance: Callable[[int], None] = lambda listed: None,
) -> Found:
    """The k vectors of an index with the largest inner product with each query, exactly: the cosine of unit vectors.

    Every shard is read once, its checksums first; memory grows with the queries and k and not with the index. Scores
    and order depend neither on the size of the shards nor on the runner; of equal scores the earlier picture is first.
    A shard that is missing or damaged is a gap. Raises `UsageError` for vectors of another dimension.
    """
    dimension = index.meta["identity"]["dimension"]
    if queries.shape[1] != dimension:
        raise UsageError(f"The queries have {queries.shape[1]} dimensions and the index {dimension}; embed them alike.")
    gaps = []
    searched = 0
    best = TopK(queries, k)
    parts = [best.result()]
    look = partial(_look, best) if runner == "local" else partial(_look_alone, queries, k)
    for shard, part in zip(index.shards, map_shards(look, index.shards, runner=runner), strict=True):
        if isinstance(part, str):
            gaps.append(Gap(shard.name, part, shard.listed))
        else:
            searched += shard.count
            parts = parts if part is None else [merge([*parts, part], k)]
        advance(shard.listed)
    scores, places = best.result() if runner == "local" else parts[0]
    return Found(scores, places, searched, index.listed, tuple(gaps))


def rows_at(index: Index, places: Int[np.ndarray, "*N"]) -> dict[int, Json]:
    """Table rows of vectors by their place in the index, with `shard`, the shard's name, and `position` in the source.

    Only the tables of their shards are read.
    """
    wanted = np.unique(places[places >= 0])
    by_place: dict[int, Json] = {}
    for shard in index.shards:
        of_shard = wanted[(wanted >= shard.first) & (wanted < shard.first + shard.count)]
        if len(of_shard):
            table = shard.table()
            rows = np.flatnonzero(table.column("vector").to_numpy() >= 0)[of_shard - shard.first]
            for place, row, values in zip(of_shard.tolist(), rows.tolist(), table.take(rows).to_pylist(), strict=True):
                by_place[place] = values | {"shard": shard.name, "position": shard.start + row}
    return by_place


def _look(best: TopK, shard: Shard) -> str | None:
    """Add a shard to a running search; the reason, if it cannot be searched."""
    try:
        shard.check()
        vectors = shard.vectors()
    except Damaged as e:
        return str(e)
    best.add(vectors, shard.first)
    return None


def _look_alone(queries: Float[np.ndarray, "Q D"], k: int, shard: Shard) -> Result | str:
    """The nearest vectors of a shard alone, or the reason why it cannot be searched."""
    best = TopK(queries, k)
    return _look(best, shard) or best.result()
