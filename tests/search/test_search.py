"""Indexes: byte-identical after a kill, damaged shards reported, exact search whatever the shards, duplicates."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mnemoscope as mn
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, Identity, descriptor
from mnemoscope.run.run import read_json, read_rows, write_json
from mnemoscope.run.writing import sha256_of
from mnemoscope.search.build import build_index
from mnemoscope.search.duplicates import duplicate_groups, run_duplicates
from mnemoscope.search.linking import join, star_links, vectors_at
from mnemoscope.search.querying import run_search
from mnemoscope.search.searching import rows_at, search_index
from mnemoscope.search.shards import Index
from search_pictures import COUNT, encoded, pictures

PIXELS = descriptor("pixels")


def files(folder: Path) -> dict[str, bytes]:
    """What an index is made of, but for when and by what it was."""
    kept = [*folder.glob("shards/*"), folder / "meta.json"]
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in kept}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures(tmp_path / "source")


@pytest.fixture
def index(source: Path, tmp_path: Path) -> Path:
    build_index(source, tmp_path / "index", PIXELS, shard_size=5)
    return tmp_path / "index"


# Building


def test_an_index_has_vectors_rows_and_checksums(source: Path, index: Path) -> None:
    (source / "2.png").write_bytes(b"")  # after it was indexed: the index does not depend on it
    opened = Index.open(index)
    assert [s.listed for s in opened.shards] == [5, 5, 5, 5, 3] and opened.count == opened.listed == COUNT
    assert opened.identity == PIXELS.identity and opened.meta["statuses"] == {"ok": COUNT}
    vectors = np.concatenate(list(opened.blocks()))
    assert vectors.dtype == np.float16
    images = [Image.open(io.BytesIO(encoded(k))) for k in range(COUNT)]
    assert np.array_equal(vectors, PIXELS(images).astype(np.float16))
    rows = [row for shard in opened.shards for row in shard.listed_rows()]
    assert [r["key"] for r in rows] == [f"{k}.png" for k in range(COUNT)]
    assert rows[7]["caption"] == "caption 7" and (rows[7]["width"], rows[7]["height"]) == (16, 16)
    assert rows[7]["sha256"] == __import__("hashlib").sha256(encoded(7)).hexdigest()


def test_unreadable_pictures_are_rows(source: Path, tmp_path: Path) -> None:
    (source / "3.png").write_bytes(b"text")
    (source / "9.png").write_bytes(encoded(9)[:100])
    (source / "11.png").unlink()
    (source / "11.png").symlink_to("nowhere")
    meta = build_index(source, tmp_path / "i", PIXELS, shard_size=10)
    assert meta["listed"] == COUNT and meta["count"] == COUNT - 3
    assert meta["statuses"] == {"missing": 1, "ok": COUNT - 3, "unreadable": 2}
    assert meta["reasons"] == {"text, not an image": 1, "truncated": 1, "the file is gone": 1}
    table = Index.open(tmp_path / "i").shards[0].table().to_pylist()
    assert table[3] | {"sha256": None} == {
        "key": "3.png", "caption": "caption 3", "url": None, "width": None, "height": None, "sha256": None,
        "status": "unreadable", "reason": "text, not an image", "vector": -1,
    }  # fmt: skip
    assert [r["vector"] for r in table] == [0, 1, 2, -1, 3, 4, 5, 6, 7, -1]
    found = search_index(Index.open(tmp_path / "i"), PIXELS([Image.open(source / "10.png")]), 1)
    (row,) = rows_at(Index.open(tmp_path / "i"), found.places[0]).values()
    assert (row["key"], row["position"]) == ("10.png", 10) and found.coverage == (COUNT - 3) / COUNT


def test_a_shard_of_nothing_readable(tmp_path: Path) -> None:
    source = pictures(tmp_path / "s", 4)
    for k in (0, 1):
        (source / f"{k}.png").write_bytes(b"")
    build_index(source, tmp_path / "i", PIXELS, shard_size=2)
    found = search_index(Index.open(tmp_path / "i"), PIXELS([Image.open(source / "2.png")]), 3)
    assert found.places.tolist() == [[0, 1, -1]] and found.coverage == 0.5 and not found.gaps


def test_building_again_changes_nothing_and_computes_nothing(source: Path, index: Path) -> None:
    before, times = files(index), {f: f.stat().st_mtime_ns for f in index.glob("shards/*")}
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == before and {f: f.stat().st_mtime_ns for f in index.glob("shards/*")} == times


KILLED = """
import sys, time
from mnemoscope.features import descriptor
from mnemoscope.search.build import build_index
pixels = descriptor("pixels")
own = pixels._vectors
pixels._vectors = lambda images: (time.sleep(0.02), own(images))[1]
build_index(sys.argv[1], sys.argv[2], pixels, shard_size=5, batch=1)
"""


def test_a_killed_build_goes_on_and_writes_the_same_bytes(source: Path, index: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(source), str(killed)], env=environment)
    until = time.monotonic() + 60
    while not (killed / "shards" / "emb-00001.json").exists() and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {f: f.stat().st_mtime_ns for f in (killed / "shards").glob("emb-0000[01].*")}
    whole = Index.open(killed)
    assert len(done) == 6 and "shards" not in whole.meta and not whole.shards[4].files
    found = search_index(whole, np.asarray(whole.shards[0].vectors()[:1], np.float32), 2)
    assert {g.reason for g in found.gaps} == {"not built"} and found.coverage < 1
    (killed / "shards" / ".emb-00003.npy.1.partial").write_bytes(b"torn")
    (killed / "shards" / "emb-00003.npy").write_bytes(b"torn")
    build_index(source, killed, PIXELS, shard_size=5)
    assert {f: f.stat().st_mtime_ns for f in done} == done  # kept, not computed again
    assert files(killed) == files(index)


def test_a_damaged_shard_is_mended(source: Path, index: Path) -> None:
    before = files(index)
    with (index / "shards" / "emb-00001.npy").open("r+b") as f:
        f.seek(-1, 2)
        f.write(b"\1")
    (index / "shards" / "emb-00003.parquet").unlink()
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == before


@pytest.mark.parametrize("lost", ["statuses", "reasons", "count", "files"])
def test_a_shard_whose_record_lost_something_is_built_again(source: Path, index: Path, lost: str) -> None:
    before, record = files(index), index / "shards" / "emb-00002.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != lost}))
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == before


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_batches_change_no_byte(batch: int, source: Path, index: Path, tmp_path: Path) -> None:
    build_index(source, tmp_path / "other", PIXELS, shard_size=5, batch=batch)
    assert files(tmp_path / "other") == files(index)


class Other(Descriptor):
    def __init__(self) -> None:
        super().__init__(Identity("other", "p", "none", 2), PIXELS.geometry)

    def _vectors(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.ones((len(images), 2), np.float32)


def test_another_source_or_descriptor_is_refused(source: Path, index: Path) -> None:
    with pytest.raises(
        UsageError, match=r"index of something else \(identity\.features \"pixels\" there, \"other\" here"
    ):
        build_index(source, index, Other(), shard_size=5)
    with pytest.raises(UsageError, match="shard_size 5 there, 6 here"):
        build_index(source, index, PIXELS, shard_size=6)
    (source / "new.png").write_bytes(encoded(99))
    with pytest.raises(UsageError, match="content"):
        build_index(source, index, PIXELS, shard_size=5)
    (index / "mine.txt").write_text("keep")
    meta = build_index(source, index, PIXELS, shard_size=6, overwrite=True)
    assert meta["listed"] == COUNT + 1 and (index / "mine.txt").read_text() == "keep"
    assert {f.stem for f in index.glob("shards/*")} == {f"emb-0000{k}" for k in range(4)}


def test_folders_that_are_no_index(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds something else"):
        build_index(source, source, PIXELS)
    with pytest.raises(UsageError, match="holds no index; build one"):
        Index.open(source)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.tar").write_bytes(b"\0" * 10240)
    with pytest.raises(UsageError, match="holds no picture"):
        build_index(tmp_path / "empty", tmp_path / "i", PIXELS)


def test_a_limit_takes_the_first(source: Path, tmp_path: Path) -> None:
    meta = build_index(source, tmp_path / "i", PIXELS, shard_size=4, limit=6)
    assert meta["listed"] == 6
    assert [r["key"] for s in Index.open(tmp_path / "i").shards for r in s.listed_rows()] == [
        f"{k}.png" for k in range(6)
    ]


# Searching


def brute(index: Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.concatenate([np.asarray(b, np.float64) for b in index.blocks()])
    scores = (queries.astype(np.float64) @ vectors.T).astype(np.float32)
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def test_search_is_brute_force_whatever_the_shards(source: Path, tmp_path: Path) -> None:
    for name, twin in (("5.png", "17.png"), ("5.png", "20.png")):  # of equal scores the earlier is first
        (source / twin).write_bytes((source / name).read_bytes())
    queries = PIXELS([Image.open(source / f"{k}.png") for k in (5, 0, 22)])
    seen = []
    for size in (1, 4, 7, 100):
        build_index(source, tmp_path / str(size), PIXELS, shard_size=size)
        index = Index.open(tmp_path / str(size))
        found = search_index(index, queries, 6)
        scores, places = brute(index, queries, 6)
        assert np.array_equal(found.places, places) and np.allclose(found.scores, scores, atol=1e-6)
        assert found.coverage == 1 and not found.gaps
        seen.append((found.scores.tobytes(), found.places.tobytes()))
    assert len(set(seen)) == 1 and found.places[0, :3].tolist() == [5, 17, 20]


def test_a_damaged_shard_is_a_gap(index: Path) -> None:
    whole = search_index(Index.open(index), np.asarray(Index.open(index).shards[1].vectors(), np.float32), 2)
    with (index / "shards" / "emb-00001.npy").open("r+b") as f:
        f.seek(200)
        f.write(b"\xff\xff")
    (index / "shards" / "emb-00002.npy").unlink()
    (index / "shards" / "emb-00004.parquet").write_bytes(b"")
    queries = np.asarray(Index.open(index).shards[0].vectors(), np.float32)
    found = search_index(Index.open(index), queries, 30)
    assert [(g.shard, g.listed) for g in found.gaps] == [("emb-00001", 5), ("emb-00002", 5), ("emb-00004", 3)]
    assert "checksum" in found.gaps[0].reason and "No such file" in found.gaps[1].reason
    assert found.searched == 10 and found.coverage == 10 / COUNT
    assert sorted(p for p in found.places[0] if p >= 0) == [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]  # places do not shift
    assert whole.coverage == 1


def test_a_run_of_queries(source: Path, index: Path, tmp_path: Path) -> None:
    queries = pictures(tmp_path / "queries", 3)
    (queries / "1.png").write_bytes(b"<html>")
    summary = run_search(index, queries, tmp_path / "run", PIXELS, k=2)
    rows = read_rows(tmp_path / "run")
    assert [(r["file"], r.get("rank"), r.get("match")) for r in rows if r.get("rank") != 2] == [
        ("0.png", 1, "0.png"), ("1.png", None, None), ("2.png", 1, "2.png"),
    ]  # fmt: skip
    assert rows[2]["status"] == "failed" and rows[2]["error"] == "a web page"
    assert rows[0]["score"] == pytest.approx(1, abs=1e-3) and rows[0]["caption"] == "caption 0"
    assert rows[0]["shard"] == "emb-00000" and rows[0]["prompt"] == "caption 0"
    expected = {"queries": 3, "unreadable_queries": 1, "failed": 1, "searched": COUNT, "listed": COUNT, "coverage": 1.0}
    assert summary.items() >= expected.items() and summary["above_threshold"] == 2
    table = pq.read_table(tmp_path / "run" / "matches.parquet").to_pylist()
    names = ("file", "rank", "match", "score", "caption", "url", "shard")
    assert [[t[n] for n in names] for t in table] == [
        [pytest.approx(r[n]) if n == "score" else r[n] for n in names] for r in rows if r["status"] == "ok"
    ]
    for row in rows:
        for name in ("picture", "match_picture"):
            assert row["status"] != "ok" or (tmp_path / "run" / row[name]).is_file()
    assert run_search(index, queries, tmp_path / "run", PIXELS, k=2)["rows"] == len(rows)


def test_a_search_without_the_images_of_the_index(source: Path, index: Path, tmp_path: Path) -> None:
    queries = pictures(tmp_path / "queries", 2)
    source.rename(tmp_path / "moved")
    summary = run_search(index, queries, tmp_path / "run", PIXELS)
    assert summary["failed"] == 0 and "are not shown: There is nothing at" in summary["notes"][0]
    assert [r["match"] for r in read_rows(tmp_path / "run") if r["rank"] == 1] == ["0.png", "1.png"]
    assert mn.report.write([tmp_path / "run"]).read_text().count("data:image/jpeg") + 1 > 2


def test_queries_of_another_descriptor_are_refused(source: Path, index: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="features other and pixels"):
        run_search(index, source, tmp_path / "run", Other())
    with pytest.raises(UsageError, match="2 dimensions and the index 3072"):
        search_index(Index.open(index), np.ones((1, 2), np.float32), 1)


def test_more_neighbours_than_pictures(index: Path, source: Path, tmp_path: Path) -> None:
    run_search(index, source / "0.png", tmp_path / "run", PIXELS, k=50)
    assert [r["rank"] for r in read_rows(tmp_path / "run")] == list(range(1, COUNT + 1))


# Duplicates


def test_duplicates_are_groups_with_counts(tmp_path: Path) -> None:
    source = pictures(tmp_path / "s", 12)
    for group in ((0, 4, 9), (2, 11)):
        for k in group[1:]:
            (source / f"{k}.png").write_bytes((source / f"{group[0]}.png").read_bytes())
    build_index(source, tmp_path / "i", PIXELS, shard_size=5)
    summary = run_duplicates(tmp_path / "i", tmp_path / "d")
    rows = pq.read_table(tmp_path / "d" / "duplicates.parquet").to_pylist()
    expected = {0: (0, 3), 4: (0, 3), 9: (0, 3), 2: (2, 2), 11: (2, 2)}
    assert [(r["key"], r["group"], r["count"]) for r in rows] == [
        (f"{k}.png", *expected.get(k, (k, 1))) for k in range(12)
    ]
    lines = [json.loads(line) for line in (tmp_path / "d" / "duplicates.jsonl").read_text().splitlines()]
    assert lines == [rows[k] for k in (0, 4, 9, 2, 11)]
    told = {"pictures": 12, "pairs": 4, "groups": 2, "duplicated": 5, "share": 5 / 12, "surplus": 3}
    assert summary.items() >= told.items() and read_json(tmp_path / "d" / "summary.json") == summary
    assert summary["largest"] == [{"key": "0.png", "count": 3}, {"key": "2.png", "count": 2}]


def test_groups_are_those_of_a_graph_search(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against breadth-first search over all pairs, at a threshold that chains pictures; blocks do not matter."""
    monkeypatch.setattr("mnemoscope.search.linking.BLOCK", 4)
    opened = Index.open(index)
    vectors = np.concatenate([np.asarray(b, np.float32) for b in opened.blocks()])
    near = vectors @ vectors.T
    threshold = float(np.quantile(near[np.triu_indices(COUNT, 1)], 0.95))
    groups = duplicate_groups(opened, threshold)
    left, sizes = set(range(COUNT)), {}
    while left:
        first = min(left)
        reached, fringe = {first}, [first]
        while fringe:
            here = fringe.pop()
            new = {k for k in range(COUNT) if k != here and near[here, k] >= threshold} - reached
            reached |= new
            fringe += new
        sizes |= {k: (first, len(reached)) for k in reached}
        left -= reached
    assert list(zip(groups.group.tolist(), groups.count.tolist(), strict=True)) == [sizes[k] for k in range(COUNT)]
    assert groups.pairs == int((np.triu(near, 1) >= threshold).sum()) and max(groups.count) > 2
    chained = [k for k in range(COUNT) if k != sizes[k][0] and near[k, sizes[k][0]] < threshold]
    assert groups.chained == len(chained) > 0


def test_stars_have_all_their_pictures_at_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop over the pictures in order; blocks and arrays do not matter."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((60, 6)).astype(np.float32)
    vectors[20:] = vectors[rng.integers(0, 20, 40)] + 0.3 * vectors[20:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected: list[int] = []
    for k, vector in enumerate(vectors):
        begun = [j for j in range(k) if expected[j] == j and vectors[j] @ vector >= 0.9]
        expected.append(min(begun, default=k))
    assert 20 < len(set(expected)) < 50
    for block in (4, 7, 4096):
        monkeypatch.setattr("mnemoscope.search.linking.BLOCK", block)
        group, links = star_links([vectors[:11], vectors[11:11], vectors[11:]], 0.9, lambda count: None)
        assert group.tolist() == expected and links == 60 - len(set(expected))
    places = np.array([59, 0, 11, 10])
    assert np.array_equal(vectors_at([vectors[:11], vectors[11:11], vectors[11:]], places), vectors[places])


def test_a_star_does_not_chain_strangers(tmp_path: Path, index: Path) -> None:
    """Three vectors on a circle, the outer two not alike: single linkage has them in one group."""
    angles = np.radians([0, 20, 40])
    meta = json.loads((index / "meta.json").read_text())
    for shard in Index.open(index).shards:
        array = np.zeros((shard.count, PIXELS.identity.dimension), np.float16)
        array[np.arange(shard.count), 10 + shard.first + np.arange(shard.count)] = 1
        if shard.number == 0:
            array[:3] = 0
            array[:3, 0], array[:3, 1] = np.cos(angles), np.sin(angles)
        np.save(shard.array, array)
        meta["shards"][shard.number]["files"][shard.array.name] = sha256_of(shard.array)
    write_json(index / "meta.json", meta)
    opened = Index.open(index)
    one, star = (duplicate_groups(opened, 0.9, linkage=linkage) for linkage in ("single", "star"))
    assert one.group[:3].tolist() == [0, 0, 0] and (one.pairs, one.chained, one.count[0]) == (2, 1, 3)
    assert star.group[:3].tolist() == [0, 0, 2] and (star.pairs, star.chained, star.count[2]) == (1, 0, 1)
    summary = run_duplicates(index, tmp_path / "d", threshold=0.9, linkage="star")
    assert (summary["linkage"], summary["groups"], summary["duplicated"], summary["chained"]) == ("star", 1, 2, 0)


def test_joining_in_any_order_gives_the_same_groups() -> None:
    pairs = np.array([(0, 1), (5, 4), (3, 2), (1, 5), (7, 8), (2, 8)])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixed = rng.permutation(rng.permuted(pairs, axis=1))
        group = np.arange(10)
        for part in np.array_split(mixed, 3):
            join(group, part[:, 0], part[:, 1])
        while (group != group[group]).any():
            group = group[group]
        assert group.tolist() == [0, 0, 2, 2, 0, 0, 6, 2, 2, 9]


def test_duplicates_need_a_whole_index_and_a_similarity(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threshold 0 is no similarity"):
        duplicate_groups(Index.open(index), 0)
    (index / "shards" / "emb-00001.npy").unlink()
    with pytest.raises(UsageError, match="emb-00001.npy cannot be read.*mend it"):
        run_duplicates(index, tmp_path / "d")


def test_an_approximate_search_says_its_recall(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    source = pictures(tmp_path / "s", 12)
    build_index(source, tmp_path / "i", PIXELS, shard_size=5)
    with pytest.raises(UsageError, match="12 vectors and approximate search needs"):
        run_search(tmp_path / "i", source, tmp_path / "run", PIXELS, ann="faiss")
