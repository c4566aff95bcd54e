"""Approximate search: scores of exact search, recall measured against it, tables built when they must be."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.search import ann_tables
from mnemoscope.search.ann import approximate
from mnemoscope.search.searching import search_index
from mnemoscope.search.shards import Index, sha256_of

DIMENSION, SHARD = 32, 700


def unit(seed: int, count: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def written(folder: Path, vectors: np.ndarray) -> Index:
    """An index of these vectors in shards of 700."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, len(vectors), SHARD)):
        file = folder / "shards" / f"emb-{number:05d}.npy"
        np.save(file, vectors[start : start + SHARD].astype("<f2"))
        count = len(vectors[start : start + SHARD])
        shards.append({"count": count, "listed": count, "files": {file.name: sha256_of(file)}})
    identity = {"features": "pixels", "preset": "test", "weights": "none", "dimension": DIMENSION}
    meta = {"format": 1, "identity": identity, "listed": len(vectors), "shard_size": SHARD, "shards": shards}
    meta |= {"counts": [len(vectors)], "dtype": "float16", "source": "test", "captions": None}
    meta |= {"limit": None, "column": None, "content": "test"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return Index.open(folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, np.ndarray, np.ndarray]:
    """3,000 vectors, 40 queries that are near-copies of some of them, and the places of these."""
    vectors, places = unit(0, 3000), np.random.default_rng(1).choice(3000, 40, replace=False)
    return written(tmp_path_factory.mktemp("index"), vectors), vectors[places] + 0.05 * unit(2, 40), places


@pytest.fixture(params=["faiss", "lance"])
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed: pip install 'mnemoscope[search]'")
    return request.param


def test_planted_copies_are_found_with_exact_scores(kind: Any, planted: tuple) -> None:
    index, queries, places = planted
    exact = search_index(index, queries, 5)
    found, recall = approximate(index, queries, 5, kind=kind, sample=40)
    assert (found.places[:, 0] == places).all() and recall.at_1 == 1
    assert (found.searched, found.listed, found.gaps) == (3000, 3000, ())
    same = [np.isin(mine, true) for mine, true in zip(found.places, exact.places, strict=True)]
    assert recall.at_k == pytest.approx(np.mean(same)) and 0.3 < recall.at_k < 1
    true = {(q, p): s for q in range(40) for p, s in zip(exact.places[q], exact.scores[q], strict=True)}
    for q, rank in np.argwhere(same):
        assert found.scores[q, rank] == true[q, found.places[q, rank]]
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_all_lists_and_candidates_are_exact_search(kind: Any, planted: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left out by lists or compression the answer is that of exact search, to the bit."""
    index, queries, _ = planted
    monkeypatch.setattr("mnemoscope.search.ann.LEAST", 3000)
    found, recall = approximate(index, queries[:9], 5, kind=kind, probes=10_000, sample=4)
    exact = search_index(index, queries[:9], 5)
    assert np.array_equal(found.places, exact.places) and found.scores.tobytes() == exact.scores.tobytes()
    assert (recall.at_1, recall.at_k, recall.sampled, recall.probes) == (1, 1, 4, recall.lists)


def test_more_probes_find_more(kind: Any, planted: tuple) -> None:
    queries = unit(7, 60)  # copies of nothing: their neighbours are in many lists
    few, many = (approximate(planted[0], queries, 5, kind=kind, probes=p, sample=60)[1] for p in (1, 40))
    assert few.at_k < many.at_k and few.at_1 < many.at_1


def test_one_query(kind: Any, planted: tuple) -> None:
    index, queries, places = planted
    found, recall = approximate(index, queries[:1], 2, kind=kind)
    assert found.places[0, 0] == places[0] and recall.sampled == 1


def test_a_table_is_built_once_and_again_for_other_vectors(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    blocks = ann_tables._training if kind == "faiss" else ann_tables._batches
    name = "_training" if kind == "faiss" else "_batches"
    monkeypatch.setattr(ann_tables, name, lambda *a: built.append(1) or blocks(*a))
    vectors = unit(3, 1100)
    index = written(tmp_path / "index", vectors)
    for _ in range(2):
        found, _ = approximate(index, vectors[-1:], 1, kind=kind)
        assert found.places.tolist() == [[1099]] and len(built) == 1
    other = unit(4, 1100)
    index = written(tmp_path / "index", other)
    found, _ = approximate(index, other[20:22], 1, kind=kind)
    assert found.places.tolist() == [[20], [21]] and len(built) == 2


def test_interrupted_building_is_done_again(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = written(tmp_path / "index", unit(5, 1100))
    with monkeypatch.context() as broken:
        target = "write_json" if kind == "faiss" else "_parts"
        broken.setattr(ann_tables, target, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            approximate(index, unit(5, 1100)[:1], 1, kind=kind)
    assert approximate(index, unit(5, 1100)[:2], 1, kind=kind)[0].places.tolist() == [[0], [1]]


def test_lance_takes_any_uri(planted: tuple, tmp_path: Path) -> None:
    pytest.importorskip("lance")
    index, queries, places = planted
    found, _ = approximate(index, queries, 1, kind="lance", uri=(tmp_path / "far" / "table.lance").as_uri())
    assert (found.places[:, 0] == places).all() and (tmp_path / "far" / "table.lance").is_dir()


def test_damaged_shard(kind: Any, tmp_path: Path) -> None:
    index = written(tmp_path / "index", unit(6, 1500))
    approximate(index, unit(6, 3), 1, kind=kind)
    (tmp_path / "index" / "shards" / "emb-00001.npy").write_bytes(b"spoiled")
    with pytest.raises(UsageError, match="emb-00001.npy"):
        approximate(index, unit(6, 3), 1, kind=kind)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"sample": 0}, "at least one query"),
        ({"uri": "s3://bucket/table"}, "for Lance only"),
        ({"queries": np.ones((1, 8), np.float32)}, "8 dimensions and the index 32"),
    ],
)
def test_bad_input(planted: tuple, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        approximate(planted[0], given.pop("queries", planted[1]), 1, kind="faiss", **given)


def test_small_indexes_are_searched_exactly(planted: tuple) -> None:
    small = replace(planted[0], shards=planted[0].shards[:1])
    with pytest.raises(UsageError, match="700 vectors .* leave out --ann"):
        approximate(small, planted[1], 1, kind="faiss")


@pytest.mark.parametrize("module, kind", [("faiss", "faiss"), ("lance", "lance")])
def test_absent_libraries_are_named(module: str, kind: Any, planted: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'mnemoscope\[search\]'"):
        approximate(planted[0], planted[1], 1, kind=kind)
