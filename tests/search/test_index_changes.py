"""Indexes that change: what is added, removed and merged is as if it had been built so; kills lose nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.pictures import read_pictures
from mnemoscope.run.run import read_json, write_json
from mnemoscope.search import removing
from mnemoscope.search.adding import add_source
from mnemoscope.search.build import build_index
from mnemoscope.search.duplicates import duplicate_groups
from mnemoscope.search.merging import merge_indexes
from mnemoscope.search.querying import run_search
from mnemoscope.search.removing import read_keys, remove_pictures
from mnemoscope.search.searching import rows_at, search_index
from mnemoscope.search.shards import Index
from search_pictures import encoded, pictures

PIXELS = descriptor("pixels")
MORE = 9
QUERIES = np.random.default_rng(0).standard_normal((6, PIXELS.identity.dimension)).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures(tmp_path / "a-source")


@pytest.fixture
def more(tmp_path: Path) -> Path:
    folder = tmp_path / "b-source"
    folder.mkdir()
    for k in range(MORE):
        (folder / f"more{k}.png").write_bytes(encoded(100 + k))
        (folder / f"more{k}.txt").write_text(f"more caption {k}")
    return folder


@pytest.fixture
def index(source: Path, tmp_path: Path) -> Path:
    build_index(source, tmp_path / "index", PIXELS, shard_size=5)
    return tmp_path / "index"


def files(folder: Path) -> dict[str, bytes]:
    kept = [*folder.glob("shards/*"), folder / "meta.json"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in kept}


def found(folder: Path) -> list[list[tuple[str, str | None, float]]]:
    """Keys, captions and scores of the nearest pictures of some queries."""
    index = Index.open(folder)
    nearest = search_index(index, QUERIES, 40)
    rows = rows_at(index, nearest.places)
    return [
        [(rows[p]["key"], rows[p]["caption"], float(s)) for p, s in zip(places, scores, strict=True) if p >= 0]
        for places, scores in zip(nearest.places, nearest.scores, strict=True)
    ]


def rebuilt(folder: Path, tmp_path: Path, *sources: Path, without: tuple[str, ...] = ()) -> Path:
    """An index built at once of the pictures of several folders, but for some."""
    folder.mkdir()
    for each in sources:
        for file in each.iterdir():
            if file.stem not in {Path(name).stem for name in without}:
                (folder / file.name).write_bytes(file.read_bytes())
    build_index(folder, tmp_path / f"{folder.name}.index", PIXELS, shard_size=7)
    return tmp_path / f"{folder.name}.index"


def test_an_index_with_an_added_source_is_one_of_both(source: Path, more: Path, index: Path, tmp_path: Path) -> None:
    before = files(index)
    meta = add_source(index, more, PIXELS)
    after = files(index)
    assert {name for name in after if after[name] != before.get(name)} == {"meta.json"} | {
        f"shards/emb-0000{k}.{end}" for k in (5, 6) for end in ("npy", "parquet", "json")
    }
    assert found(index) == found(rebuilt(tmp_path / "both", tmp_path, source, more))
    assert meta["count"] == 23 + MORE and meta["statuses"] == {"ok": 23 + MORE}
    assert meta["picture_captions"]["with_caption"] == 23 + MORE
    add_source(index, more, PIXELS)
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == after
    assert [p.key for p in read_pictures(index)][21:25] == ["21.png", "22.png", "more0.png", "more1.png"]


def test_an_addition_that_was_stopped_goes_on(more: Path, index: Path, tmp_path: Path, monkeypatch) -> None:
    build_index(tmp_path / "a-source", tmp_path / "whole", PIXELS, shard_size=5)
    add_source(tmp_path / "whole", more, PIXELS)
    calls = []

    def dies(images: list) -> np.ndarray:
        calls.append(len(images))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return own(images)

    own = PIXELS._vectors
    monkeypatch.setattr(PIXELS, "_vectors", dies)
    with pytest.raises(KeyboardInterrupt):
        add_source(index, more, PIXELS)
    monkeypatch.undo()
    assert search_index(Index.open(index), QUERIES, 3).gaps[0].reason == "not built"
    with pytest.raises(UsageError, match="not finished"):
        remove_pictures(index, ["1.png"])
    add_source(index, more, PIXELS)
    assert files(index) == files(tmp_path / "whole")


def test_a_damaged_shard_of_an_added_source_is_mended(source: Path, more: Path, index: Path) -> None:
    add_source(index, more, PIXELS)
    whole = files(index)
    (index / "shards" / "emb-00006.npy").write_bytes(b"torn")
    (index / "shards" / "emb-00001.parquet").unlink()
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == whole


def test_an_added_source_that_has_changed_is_refused(more: Path, index: Path) -> None:
    add_source(index, more, PIXELS)
    before = files(index)
    (more / "more3.png").unlink()
    with pytest.raises(UsageError, match="already, with a difference"):
        add_source(index, more, PIXELS)
    with pytest.raises(UsageError, match="holds no image|no picture"):
        add_source(index, pictures(more.parent / "empty", 0), PIXELS)
    assert files(index) == before


def test_an_index_without_some_pictures_is_one_of_the_others(source: Path, index: Path, tmp_path: Path) -> None:
    gone = ("3.png", "4.png", "22.png")
    meta = remove_pictures(index, gone)
    assert meta["statuses"] == {"ok": 20, "removed": 3} and meta["count"] == 20
    assert found(index) == found(rebuilt(tmp_path / "fewer", tmp_path, source, without=gone))
    assert sorted(p.name for p in (index / "shards").glob("emb-00000*")) == [
        f"emb-00000.1.{end}" for end in ("json", "npy", "parquet")
    ]
    held = b"".join(file.read_bytes() for file in index.rglob("*") if file.is_file())
    table = Index.open(index).shards[0].table().to_pylist()
    assert table[3] | {"key": ""} == dict.fromkeys(table[3]) | {"key": "", "status": "removed", "vector": -1}
    assert b"caption 22" not in held and table[2]["caption"] == "caption 2"
    assert [p.key for p in read_pictures(index)][2:5] == ["2.png", "5.png", "6.png"]
    assert duplicate_groups(Index.open(index), 0.9).pairs == 0
    after = files(index)
    remove_pictures(index, ["3.png"])
    assert files(index) == after


def test_removed_pictures_stay_away(source: Path, more: Path, index: Path, tmp_path: Path) -> None:
    remove_pictures(index, ["3.png"])
    before = files(index)
    (index / "shards" / "emb-00000.1.npy").write_bytes(b"torn")
    build_index(source, index, PIXELS, shard_size=5)
    assert files(index) == before
    add_source(index, more, PIXELS)
    remove_pictures(index, ["4.png", "more2.png"])
    assert Index.open(index).shards[0].generation == 2
    assert found(index) == found(
        rebuilt(tmp_path / "fewer", tmp_path, source, more, without=("3.png", "4.png", "more2.png"))
    )


def test_a_removal_that_was_stopped_removed_nothing(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = found(index)

    def dies(file: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removing, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        remove_pictures(index, ["3.png", "9.png"])
    monkeypatch.undo()
    assert found(index) == before
    remove_pictures(index, ["9.png"])
    assert not list((index / "shards").glob("emb-00000.1.*")) and len(list((index / "shards").iterdir())) == 15
    assert {key for key, _, _ in found(index)[0]} == {f"{k}.png" for k in range(23) if k != 9}


def test_keys_of_no_picture_remove_nothing(index: Path, tmp_path: Path) -> None:
    before = files(index)
    with pytest.raises(UsageError, match=r"1 of 2 keys are of no picture .*first: x.png"):
        remove_pictures(index, ["1.png", "x.png"])
    assert files(index) == before
    (tmp_path / "keys.txt").write_bytes("\ufeff1.png\r\n\r\n2.png\n".encode())
    assert read_keys(["7.png"], tmp_path / "keys.txt") == ["7.png", "1.png", "2.png"]
    with pytest.raises(UsageError, match="No image was named"):
        read_keys([], None)
    with pytest.raises(UsageError, match="holds no index"):
        remove_pictures(tmp_path / "none", ["1.png"])
    assert not (tmp_path / "none").exists()


def test_merged_indexes_are_one_of_all(source: Path, more: Path, index: Path, tmp_path: Path) -> None:
    build_index(more, tmp_path / "other", PIXELS, shard_size=4)
    remove_pictures(tmp_path / "other", ["more2.png"])
    remove_pictures(index, ["0.png"])
    meta = merge_indexes([index, tmp_path / "other"], tmp_path / "merged")
    assert meta["statuses"] == {"ok": 21 + MORE, "removed": 2} and meta["removed"] == [0, 25]
    expected = rebuilt(tmp_path / "both", tmp_path, source, more, without=("0.png", "more2.png"))
    assert found(tmp_path / "merged") == found(expected)
    whole = files(tmp_path / "merged")
    (tmp_path / "merged" / "shards" / "emb-00002.npy").unlink()
    merge_indexes([index, tmp_path / "other"], tmp_path / "merged")
    assert files(tmp_path / "merged") == whole
    summary = run_search(tmp_path / "merged", more, tmp_path / "run", PIXELS, k=1)
    assert summary["statuses"]["removed"] == 2
    shown = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert [row["match"] == row["file"] for row in shown] == [k != 2 for k in range(MORE)]
    assert shown[0]["match"] == "more0.png" and (tmp_path / "run" / shown[0]["match_picture"]).is_file()


def test_what_does_not_go_together_is_not_merged(index: Path, more: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two or more"):
        merge_indexes([index], tmp_path / "merged")
    with pytest.raises(UsageError, match="in two of the indexes"):
        merge_indexes([index, index], tmp_path / "merged")
    build_index(more, tmp_path / "other", PIXELS, shard_size=4)
    meta = read_json(tmp_path / "other" / "meta.json")
    write_json(tmp_path / "other" / "meta.json", meta | {"identity": meta["identity"] | {"preset": "another"}})
    with pytest.raises(UsageError, match="another"):
        merge_indexes([index, tmp_path / "other"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_index_of_an_earlier_version_can_be_added_to(more: Path, index: Path) -> None:
    meta = read_json(index / "meta.json")
    meta["picture_captions"]["unmatched"] = 2
    write_json(
        index / "meta.json", {k: v for k, v in meta.items() if k not in ("unmatched", "empty", "unmatched_names")}
    )
    (more / "stray.txt").write_text("of no picture")
    for _ in range(2):  # counted once, however often
        assert add_source(index, more, PIXELS)["picture_captions"]["unmatched"] == 3


def test_the_commands_add_remove_and_merge(mnemoscope, more: Path, index: Path, tmp_path: Path) -> None:
    code, out, err = mnemoscope("index", "add", index, more)
    assert code == 0 and "32 images of 32 listed" in out and str(more) in out, err
    (tmp_path / "keys.txt").write_text("more1.png\n")
    code, out, _ = mnemoscope("index", "remove", index, "0.png", "--keys", tmp_path / "keys.txt")
    assert code == 0 and "30 images of 32 listed" in out and "2 images taken out" in out
    code, _, err = mnemoscope("index", "remove", index, "0.pngs")
    assert code == 2 and "keys are of no picture" in err
    build_index(pictures(tmp_path / "c", 3, first=50), tmp_path / "third", PIXELS)
    code, out, err = mnemoscope("index", "merge", index, tmp_path / "third", "--out", tmp_path / "merged")
    assert code == 0 and "33 images of 35 listed" in out, err
