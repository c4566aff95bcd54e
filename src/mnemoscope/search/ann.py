"""Approximate search of an index through a table of FAISS or Lance, with its recall against exact search measured."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.search import ann_tables
from mnemoscope.search.searching import Found
from mnemoscope.search.shards import Damaged, Index
from mnemoscope.search.topk import TopK, inner_products, largest

REFINED = 4  # times k candidates, at least LEAST, are scored exactly for each query
LEAST = 40
QUERIES = 256  # whose candidates are held at once


@dataclass(frozen=True)
class Recall:
    """How many of the true matches an approximate search found, by exact search of `sampled` of its queries.

    `at_1` is the share of those queries whose best match has the best score that there is, `at_k` the share of their
    k matches whose score is at least that of the true k-th: both in [0, 1].
    """

    at_1: float
    at_k: float
    k: int
    sampled: int
    kind: str
    lists: int
    probes: int

    def values(self) -> Json:
        """The same for a summary, by name."""
        return asdict(self)


def approximate(
    index: Index,
    queries: Float[np.ndarray, "Q D"],
    k: int,
    *,
    kind: Literal["faiss", "lance"],
    uri: str | None = None,
    probes: int | None = None,
    sample: int = 100,
) -> tuple[Found, Recall]:
    """Pictures of an index that are probably nearest to each query, and how many of the true ones these are.

    As `search_index`, but through a table that holds compressed vectors in lists of neighbours, of which `probes` are
    looked through (by default one in 32, at least 8). It is built by the first search, in the folder of the index or,
    of Lance, at any `uri` that Lance takes, as s3://bucket/table.lance; later searches use it until the vectors
    change. Candidates are scored exactly from the index, so scores are those of `search_index` and what is missed is
    the only error. That is measured by exact search for `sample` queries, spread over all of them. The table has all
    of the index, so a shard that cannot be read raises `UsageError`, as do an index of fewer than 1,000 vectors,
    a missing library and vectors of another dimension.
    """
    dimension = index.meta["identity"]["dimension"]
    if queries.shape[1] != dimension:
        raise UsageError(f"The queries have {queries.shape[1]} dimensions and the index {dimension}; embed them alike.")
    if sample < 1 or not len(queries):
        raise UsageError("Recall is measured on at least one query; give a sample of 1 or more and some queries.")
    table = ann_tables.opened(index, kind, uri)
    looked = min(table.lists, probes or max(8, table.lists // 32))
    parts = []
    for start in range(0, len(queries), QUERIES):
        part = np.ascontiguousarray(queries[start : start + QUERIES], np.float32)
        query, place = table.candidates(part, min(index.count, max(LEAST, REFINED * k)), looked)
        parts.append(_rescored(index, part, query, place, k))
    scores, places = (np.concatenate([part[which] for part in parts]) for which in (0, 1))
    at_1, at_k, sampled = _recall(index, queries, scores, sample)
    nearest = Found(scores, places, index.count, index.listed)
    return nearest, Recall(at_1, at_k, k, sampled, kind, table.lists, looked)


def _rescored(
    index: Index, queries: Float[np.ndarray, "q D"], query: Int[np.ndarray, " P"], place: Int[np.ndarray, " P"], k: int
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """The k best candidates of each query by exact scores; each shard with candidates is opened once."""
    order = np.argsort(place, kind="stable")
    query, place = query[order], place[order]
    scores = np.empty(len(place), np.float32)
    for shard in index.shards:
        of_shard = slice(*np.searchsorted(place, [shard.first, shard.first + shard.count]).tolist())
        if of_shard.start < of_shard.stop:
            rows, which = np.unique(place[of_shard] - shard.first, return_inverse=True)
            try:
                vectors = shard.vectors()[rows].astype(np.float32)
            except Damaged as e:
                raise UsageError(f"{index.folder}: {e}; give the same index build command again to mend it.") from e
            scores[of_shard] = inner_products(queries, vectors, query[of_shard], which)
    touched, which = np.unique(query, return_inverse=True)
    best = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    best[0][touched], best[1][touched] = largest(which, scores, place, k)
    return best


def _recall(
    index: Index, queries: Float[np.ndarray, "Q D"], scores: Float[np.ndarray, "Q k"], sample: int
) -> tuple[float, float, int]:
    rows = np.unique(np.linspace(0, len(queries) - 1, min(sample, len(queries))).round().astype(np.int64))
    exact = TopK(queries[rows], scores.shape[1])
    for shard, block in zip(index.shards, index.blocks(), strict=True):
        exact.add(block, shard.first)
    true = exact.result()[0]
    there = np.isfinite(true)  # fewer than k where the index has fewer
    hits = (scores[rows] >= np.where(there, true, np.inf).min(axis=1, keepdims=True)) & there
    return float((scores[rows, 0] >= true[:, 0]).mean()), float(hits.sum() / there.sum()), len(rows)
