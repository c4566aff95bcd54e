"""The k largest inner products of each query over vectors that come in blocks: exact, in memory that does not grow.

Every block is screened by one fast matrix product of bounded error. What may belong to the k largest within that bound
is scored again: products and sum in float64, rounded once to float32. So scores and order depend neither on the blocks
and their order nor on the precision of the screening, equal vectors have equal scores, and of equal scores the lower
index is first.
"""

import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Result = tuple[Float[np.ndarray, "Q _"], Int[np.ndarray, "Q _"]]
Screening = Literal["auto", "float32", "bfloat16"]

QUERIES, VECTORS = 1024, 2048  # of one tile of the screening
PAIRS = 8192  # scored at once in float64
MANY = 64  # queries from which converting vectors to bfloat16 can pay off
CROWDED = 4  # times k candidates of one query in one tile: its own k-th largest then sets a closer bound
FLOAT32, BFLOAT16 = 2.0**-24, 2.0**-8  # largest relative error of rounding once
UNDERFLOW = 1e-17  # far above what squares or products lose when they are too small for float32


class TopK:
    """Running k largest inner products of `queries` with all vectors added so far, in memory of queries times k.

    Scores are float32 whatever the type of queries and vectors; of unit vectors they are cosines in [-1, 1].
    `screening` is the precision of the first look and changes the speed alone: "auto" takes what is faster on this
    processor. Raises `UsageError` for k below 1 and for queries that are not rows of finite numbers.
    """

    def __init__(self, queries: Shaped[np.ndarray, "Q D"], k: int, *, screening: Screening = "auto") -> None:
        if k < 1:
            raise UsageError(f"k was {k}; ask for at least 1 match for each query.")
        if screening == "auto":
            screening = _faster() if len(queries) >= MANY else "float32"
        self._k = k
        self._queries = _Screened(queries, screening, "queries")
        self._scores = np.full((len(queries), k), -np.inf, np.float32)
        self._indices = np.full((len(queries), k), -1, np.int64)

    def add(self, block: Shaped[np.ndarray, "B D"], first: int, exclude: Int[np.ndarray, " Q"] | None = None) -> None:
        """Look through a block of vectors whose indices are `first`, `first + 1`, ...

        `exclude` names one index for each query that is no match of it, as its own in a search of vectors among
        themselves; -1 for none. Blocks may come in any order, each once. Raises `UsageError` for vectors of another
        dimension or that are not finite.
        """
        if block.shape[1] != self._queries.values.shape[1]:
            raise UsageError(
                f"The vectors have {block.shape[1]} dimensions and the queries {self._queries.values.shape[1]}; "
                "compare vectors of one descriptor."
            )
        for start in range(0, len(block), VECTORS):
            vectors = _Screened(block[start : start + VECTORS], self._queries.precision, "vectors")
            slack = self._queries.slack(vectors)
            for rows in _slices(len(self._scores), QUERIES):
                self._look(rows, vectors, first + start, slack[rows], None if exclude is None else exclude[rows])

    def result(self) -> Result:
        """Scores (float32) and indices (int64) of each query's matches, best first; -inf and -1 where none is left."""
        return self._scores.copy(), self._indices.copy()

    def _look(
        self, rows: slice, vectors: "_Screened", first: int, slack: np.ndarray, exclude: np.ndarray | None
    ) -> None:
        screened = self._queries.fast[rows] @ vectors.fast.T
        low = self._queries.least(self._scores[rows, -1], slack)
        near = np.flatnonzero(screened.amax(dim=1).float().numpy() >= low)
        if not len(near):
            return
        scores = screened[near].float().numpy()
        if exclude is not None:
            hits = np.flatnonzero((exclude[near] >= first) & (exclude[near] < first + scores.shape[1]))
            scores[hits, exclude[near][hits] - first] = -np.inf
        query, vector = np.nonzero(self._candidates(scores, low[near], slack[near]))
        query = near[query] + rows.start
        exact = inner_products(self._queries.values, vectors.values, query, vector)
        self._keep(query, exact, first + vector)

    def _candidates(
        self, scores: Float[np.ndarray, "Q B"], low: Float[np.ndarray, " Q"], slack: Float[np.ndarray, " Q"]
    ) -> Bool[np.ndarray, "Q B"]:
        """Which may be among the k largest; where many are, only those that the tile's own k-th largest leaves."""
        is_candidate = (scores >= low[:, None]) & np.isfinite(scores)
        crowded = np.flatnonzero(is_candidate.sum(axis=1) > CROWDED * self._k)
        if len(crowded) and scores.shape[1] > self._k:
            kth = np.partition(scores[crowded], -self._k, axis=1)[:, -self._k]
            least = self._queries.least(self._queries.least(kth, slack[crowded]), slack[crowded])
            is_candidate[crowded] &= scores[crowded] >= least[:, None]
        return is_candidate

    def _keep(self, query: np.ndarray, scores: np.ndarray, indices: np.ndarray) -> None:
        touched = np.unique(query)
        kept = np.repeat(touched, self._k)
        self._scores[touched], self._indices[touched] = largest(
            np.searchsorted(touched, np.concatenate([kept, query])),
            np.concatenate([self._scores[touched].ravel(), scores]),
            np.concatenate([self._indices[touched].ravel(), indices]),
            self._k,
        )


def top_k(
    queries: Shaped[np.ndarray, "Q D"],
    blocks: Iterable[Shaped[np.ndarray, "_ _"]],
    k: int,
    *,
    exclude: Int[np.ndarray, " Q"] | None = None,
) -> Result:
    """Scores and indices of the k largest inner products of each query over blocks numbered one after the other.

    The same as `TopK` with its `add` for each block; raises what it raises.
    """
    running, first = TopK(queries, k), 0
    for block in blocks:
        running.add(block, first, exclude)
        first += len(block)
    return running.result()


def merge(results: Iterable[Result], k: int | None = None) -> Result:
    """The k largest of several results for the same queries over disjoint vectors, as one pass over all would give.

    Without k, as many as the widest result has. Raises `UsageError` where there is no result.
    """
    parts = list(results)
    if not parts:
        raise UsageError("There are no results to merge; search at least one shard.")
    scores, indices = (np.concatenate([part[which] for part in parts], axis=1) for which in (0, 1))
    queries, width = scores.shape
    size = max(part[0].shape[1] for part in parts) if k is None else k
    return largest(np.repeat(np.arange(queries), width), scores.ravel(), indices.ravel(), size)


def largest(query: np.ndarray, scores: np.ndarray, indices: np.ndarray, k: int) -> Result:
    """The k largest of scored (query, index) pairs, for queries 0, 1, ...; ties by lower index, empty places last."""
    order = np.lexsort((indices, -scores, query))
    query, scores, indices = query[order], scores[order], indices[order]
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    place = np.arange(len(query)) - np.repeat(starts, np.diff(starts, append=len(query)))
    inside = place < k
    best = np.full((len(starts), k), -np.inf, scores.dtype)
    places = np.full((len(starts), k), -1, np.int64)
    best[query[inside], place[inside]] = scores[inside]
    places[query[inside], place[inside]] = indices[inside]
    return best, places


class _Screened:
    """Float32 rows and their like in the precision of the screening, with what that precision may lose."""

    def __init__(self, rows: Shaped[np.ndarray, "N D"], precision: str, what: str) -> None:
        import torch

        self.values = np.array(rows, np.float32)
        self.precision = precision
        full = torch.from_numpy(self.values)
        self.fast = full if precision == "float32" else full.bfloat16()
        self.norms = _norms(full)
        self.lost = _norms(full - self.fast.float()) if precision == "bfloat16" else np.zeros(len(rows))
        if not np.isfinite(self.norms).all():
            raise UsageError(f"The {what} must be finite numbers, one row for each image; embed these images again.")

    def slack(self, vectors: "_Screened") -> Float[np.ndarray, " N"]:
        """Largest error of an inner product of each row with any of the vectors, before it is itself rounded."""
        longest = vectors.norms.max(initial=0)
        lost = self.lost * longest + (self.norms + self.lost) * vectors.lost.max(initial=0)
        return 1.01 * ((self.values.shape[1] + 8) * FLOAT32 * self.norms * longest + lost)

    def least(self, scores: Float[np.ndarray, " N"], slack: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """What inner products of at least these scores have on screen at the least, and the other way round."""
        low = scores - slack
        low -= 1.01 * BFLOAT16 * np.abs(low) if self.precision == "bfloat16" else 0
        return np.nextafter(low.astype(np.float32), np.float32(-np.inf))


def inner_products(
    queries: Float[np.ndarray, "Q D"],
    vectors: Float[np.ndarray, "B D"],
    query: Int[np.ndarray, " P"],
    vector: Int[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
    """Inner products of pairs of rows: in float64, one sum for each pair whatever the others, rounded to float32."""
    scores = np.empty(len(query), np.float32)
    for part in _slices(len(query), PAIRS):
        products = queries[query[part]].astype(np.float64)
        products *= vectors[vector[part]]
        scores[part] = products.sum(axis=1)
    return scores


def _norms(rows: "Tensor") -> Float[np.ndarray, " N"]:
    return rows.norm(dim=1).double().numpy() + UNDERFLOW


@cache
def _faster() -> Literal["float32", "bfloat16"]:
    """The precision whose matrix product takes less time here; results do not depend on it."""
    import torch

    taken: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16) * 3:
        a, b = torch.ones(MANY * 4, 512, dtype=dtype), torch.ones(VECTORS, 512, dtype=dtype)
        started = time.perf_counter()
        a @ b.T
        taken[dtype] = min(taken.get(dtype, float("inf")), time.perf_counter() - started)
    return "bfloat16" if taken[torch.bfloat16] < taken[torch.float32] else "float32"


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
