"""How often the training data show a reference: lists of duplicates and manifests, each copy weighed once."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.measures.duplication import by_duplication
from mnemoscope.measuring.multiplicity import Multiplicity, read_multiplicity


def listed(folder: Path, groups: list[int], name: str = "duplicates.parquet") -> Path:
    """A run of index duplicates over pictures of these groups."""
    sizes = np.bincount(groups)
    rows = [{"key": f"{k}.png", "group": g, "count": int(sizes[g])} for k, g in enumerate(groups)]
    folder.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows if r["count"] > 1))
    return folder


def manifest(folder: Path, rows: list[dict]) -> Path:
    base = {"index": 0, "group": "memorized", "weight": 1.0, "copies": 1, "status": "ok"}
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([base | row for row in rows]), folder / "manifest.parquet")
    return folder


def shares(known: Multiplicity) -> tuple[float, float]:
    found = by_duplication(np.zeros(1), np.zeros(1, int), known.copies, mass=known.mass, groups=known.group)
    return found["sampled_duplicated"], found["listed_duplicated"]


@pytest.mark.parametrize("name", ["duplicates.parquet", "duplicates.jsonl"])
def test_each_copy_is_weighed_once(tmp_path: Path, name: str) -> None:
    """Two of 19 pictures are one: 10.5 % of the samples, one of 18 different ones. With the size of its group each copy
    would be weighed twice, .190."""
    folder = listed(tmp_path / "d", [0, 0, *range(2, 19)], name)
    known = read_multiplicity(folder, [f"{k}.png" for k in range(19)])
    assert known.copies[:3].tolist() == [2, 2, 1] and known.mass.sum() == 19
    assert shares(known) == pytest.approx((2 / 19, 1 / 18))
    assert read_multiplicity(folder / name, [f"{k}.png" for k in range(19)]).copies.tolist() == known.copies.tolist()


def test_a_tenth_of_the_set_is_one_picture(tmp_path: Path) -> None:
    known = read_multiplicity(listed(tmp_path / "d", [0] * 10 + list(range(10, 100))), [f"{k}.png" for k in range(100)])
    assert shares(known) == pytest.approx((0.10, 1 / 91))


def test_references_that_are_a_part_of_the_set_stand_for_their_groups(tmp_path: Path) -> None:
    """One reference of a group of three has the mass of all three, two of them half of it each."""
    folder = listed(tmp_path / "d", [0, 0, 0, 1, 2])
    one, two = (read_multiplicity(folder, [f"{k}.png" for k in keys]) for keys in ((0, 3, 4), (0, 2, 3, 4)))
    assert one.mass.tolist() == [3, 1, 1] and two.mass.tolist() == [1.5, 1.5, 1, 1]
    assert shares(one) == shares(two) == pytest.approx((3 / 5, 1 / 3))


def test_a_manifest_counts_repeats_weights_and_equal_files(tmp_path: Path) -> None:
    """`a` is trained on five times by weight, `b` and `c` are one file, `d` once, `e` was left out."""
    rows = [
        {"file": "a.png", "weight": 5.0, "dup_group": 0},
        {"file": "b.png", "copies": 2, "dup_group": 1},
        {"file": "c.png", "dup_group": 1},
        {"file": "d.png", "dup_group": 3},
        {"file": "e.png", "index": None, "weight": None, "copies": None, "dup_group": None},
        {"file": "a.png", "group": "base", "dup_group": 4},
    ]
    known = read_multiplicity(manifest(tmp_path / "t", rows), [f"{n}.png" for n in "abcdef"])
    assert known.copies.tolist() == [5, 3, 3, 1, 0, 1] and known.mass.tolist() == [5, 2, 1, 1, 0, 1]
    assert known.listed.tolist() == [True] * 5 + [False]
    assert shares(known) == pytest.approx((8 / 10, 2 / 5))


def test_a_training_run_tells_how_often_its_pictures_were_shown(tmp_path: Path) -> None:
    from mnemoscope.training.data.manifest import write_manifest
    from training_data import data, pictures

    write_manifest(data(pictures(tmp_path / "data", 8), duplication="both", duplicated=0.25, factor=5), tmp_path)
    files = [row["file"] for row in pq.read_table(tmp_path / "manifest.parquet").to_pylist()]
    known = read_multiplicity(tmp_path, files)
    assert sorted(known.copies.tolist()) == [1] * 6 + [5] * 2 and shares(known)[0] == pytest.approx(10 / 16)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.jsonl", '{"key": "a"}', "does not say how often images occur"),
        ("list.jsonl", "[" * 20_000, "does not say how often images occur"),
        ("list.jsonl", "5", "does not say how often images occur"),
        ("list.parquet", "PAR1", "does not say how often images occur"),
        ("gone.jsonl", None, "does not say how often images occur"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        read_multiplicity(tmp_path / name, ["a"])


def test_a_list_of_other_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names none of the 1 references"):
        read_multiplicity(listed(tmp_path / "d", [0, 0]), ["train/0.png"])
