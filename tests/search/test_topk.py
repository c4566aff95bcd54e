"""Exact streaming top-k: the same bits whatever the blocks, equal to brute force in float64."""

import itertools

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.search.topk import TopK, merge, top_k


def unit(seed: int, count: int, dimension: int = 64) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All scores in float64, rounded to float32, sorted by score and index."""
    scores = np.array([[(q.astype(float) * v.astype(float)).sum() for v in vectors] for q in queries], np.float32)
    order = np.array([sorted(range(len(vectors)), key=lambda i: (-row[i], i))[:k] for row in scores])
    return np.take_along_axis(scores, order, 1), order


def same(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> None:
    assert a[0].dtype == np.float32 and a[1].dtype == np.int64
    assert np.array_equal(a[0].view(np.int32), np.asarray(b[0], np.float32).view(np.int32))
    assert np.array_equal(a[1], b[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equals_brute_force_to_the_bit(dtype: type) -> None:
    queries, vectors = unit(0, 7), unit(1, 300).astype(dtype)
    same(top_k(queries, [vectors], 5), brute(queries, vectors, 5))


def test_block_size_and_order_change_no_bit() -> None:
    queries, vectors = unit(2, 600), unit(3, 3000).astype(np.float16)
    vectors[rng_places(3000, 800)] = vectors[rng_places(3000, 800)[::-1]]  # many exact ties
    expected = top_k(queries, [vectors], 4)
    for size in (1, 7, 100, 1000, 2048, 2049, 2999):
        if size == 1:
            few = slice(0, 40)
            same(top_k(queries[few], list(vectors[:, None][:500]), 4), top_k(queries[few], [vectors[:500]], 4))
            continue
        starts = list(range(0, 3000, size))
        same(top_k(queries, [vectors[s : s + size] for s in starts], 4), expected)
        backwards = TopK(queries, 4)
        for start in reversed(starts):
            backwards.add(vectors[start : start + size], start)
        same(backwards.result(), expected)


def rng_places(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(9).choice(count, size, replace=False)


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 0.1, 1.0])
def test_precision_of_the_screening_changes_no_bit(spread: float) -> None:
    """Vectors around one query, down to where either precision alone would order them by its own rounding."""
    query = unit(30, 3, 256)
    vectors = query[:1] + spread * unit(31, 5000, 256)
    exact = brute(query, vectors, 7)
    for screening in ("float32", "bfloat16"):
        running = TopK(query, 7, screening=screening)
        for start in range(0, 5000, 1700):
            running.add(vectors[start : start + 1700], start)
        same(running.result(), exact)


def test_number_of_queries_changes_no_bit() -> None:
    queries, vectors = unit(4, 700), unit(5, 900)
    together = top_k(queries, [vectors], 3)
    for rows in (slice(0, 1), slice(63, 65), slice(600, 700)):
        same(top_k(queries[rows], [vectors], 3), (together[0][rows], together[1][rows]))


def test_equal_vectors_rank_by_index() -> None:
    vectors = unit(6, 50)
    vectors[[40, 3, 17, 29]] = vectors[10]
    for blocks in ([vectors], list(np.split(vectors, 10))):
        scores, indices = top_k(vectors[10:11], blocks, 6)
        assert indices[0, :5].tolist() == [3, 10, 17, 29, 40]
        assert len(set(scores[0, :5])) == 1


def test_a_corpus_of_one_repeated_vector() -> None:
    vectors = np.repeat(unit(11, 1), 5000, axis=0)
    scores, indices = top_k(vectors[:3], [vectors], 4)
    assert indices.tolist() == [[0, 1, 2, 3]] * 3 and np.ptp(scores) == 0


def test_own_index_is_excluded() -> None:
    vectors = unit(12, 500)
    vectors[200] = vectors[4]
    scores, indices = top_k(vectors, np.split(vectors, 5), 1, exclude=np.arange(500))
    assert indices[4, 0] == 200 and indices[200, 0] == 4
    products = vectors.astype(float) @ vectors.astype(float).T
    np.fill_diagonal(products, -np.inf)
    assert np.array_equal(np.delete(indices[:, 0], (4, 200)), np.delete(products.argmax(axis=1), (4, 200)))
    assert np.allclose(scores[:, 0], products.max(axis=1))
    unaffected = top_k(vectors, [vectors], 1, exclude=np.full(500, -1))
    assert np.array_equal(unaffected[1][:, 0], np.where(np.arange(500) == 200, 4, np.arange(500)))


def test_fewer_vectors_than_k() -> None:
    scores, indices = top_k(unit(13, 2), [unit(14, 3)], 5)
    assert (indices[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all() and np.isfinite(scores[:, :3]).all()
    empty = top_k(unit(13, 2), [], 5)
    assert (empty[1] == -1).all()


def test_merge_is_one_pass() -> None:
    queries, vectors = unit(15, 30), unit(16, 400).astype(np.float16)
    parts = []
    for start in range(0, 400, 90):
        part = TopK(queries, 6)
        part.add(vectors[start : start + 90], start)
        parts.append(part.result())
    for order in itertools.islice(itertools.permutations(parts), 0, 120, 17):
        same(merge(order), top_k(queries, [vectors], 6))
    same(merge(parts, k=2), top_k(queries, [vectors], 2))


def test_vectors_of_any_length() -> None:
    queries, vectors = unit(17, 5) * 300, unit(18, 200) * np.random.default_rng(0).uniform(0, 50, (200, 1)).astype("f4")
    vectors[7] = 0
    same(top_k(queries, [vectors[:100], vectors[100:]], 8), brute(queries, vectors, 8))
    same(top_k(np.zeros((1, 64), np.float32), [vectors], 3), ([[0.0] * 3], [[0, 1, 2]]))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda: TopK(unit(0, 2), 0), "k was 0"),
        (lambda: TopK(np.full((1, 4), np.nan, np.float32), 1), "queries must be finite"),
        (lambda: top_k(unit(0, 2), [np.full((1, 64), np.inf, np.float16)], 1), "vectors must be finite"),
        (lambda: top_k(unit(0, 2), [unit(0, 2, 32)], 1), "32 dimensions and the queries 64"),
        (lambda: merge([]), "no results"),
    ],
)
def test_bad_input(wrong, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()
