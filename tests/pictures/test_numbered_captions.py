"""Numbered originals, as NeMo's, whose captions are the rows of a prompt file."""

from pathlib import Path

import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures import open_source
from mnemoscope.pictures.names import numbered
from mnemoscope.run.run import read_json, read_rows

TABLE = ';Caption;URL;type;Index\n0;"a; cat";http://x;VM;7\n1;a red bicycle;;TM;8\n2;a house;;TM;9\n'


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Two pictures of the first prompt, one of the third, none of the second, one of a prompt that is not there."""
    folder = tmp_path / "originals"
    folder.mkdir()
    for k, name in enumerate(("0000_first.png", "img_0000_01.jpg", "0002_x.png", "0009_y.png")):
        Image.new("RGB", (48, 48), (40 * k + 20, 255 - 60 * k, 10)).save(folder / name)
    (tmp_path / "prompts.csv").write_text(TABLE)
    return folder


def test_rows_of_a_prompt_file_are_the_captions_of_numbers(originals: Path, tmp_path: Path) -> None:
    source = open_source(str(originals), captions=tmp_path / "prompts.csv")
    assert {p.key: p.captions for p in source} == {
        "0000_first.png": ("a; cat",),
        "img_0000_01.jpg": ("a; cat",),
        "0002_x.png": ("a house",),
        "0009_y.png": (),
    }
    assert len(source.unmatched) == 1 and source.unmatched[0].endswith("prompts.csv: line 3")


def test_one_picture_without_a_number_leaves_rows_without_meaning(originals: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(originals / "other.png")
    with pytest.raises(UsageError, match="no column names a picture"):
        open_source(str(originals), captions=tmp_path / "prompts.csv")


@pytest.mark.parametrize("name", ["1.png", "0001.png", "cat_0001.png", "001_x.png"])
def test_other_names_are_no_numbers_of_prompts(name: str) -> None:
    assert numbered([name]) is None
    assert numbered(["a/0012_x.png", "IMG_0012_03.PNG"]) == {12: ["a/0012_x.png", "IMG_0012_03.PNG"]}


def test_measure_compares_with_numbered_originals(mnemoscope, originals: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for k, name in enumerate(("img_0000_00.png", "img_0002_00.png")):
        Image.open(originals / ("0000_first.png", "0002_x.png")[k]).save(drawn / name)
    words = ["measure", drawn, "--references", originals, "--captions", tmp_path / "prompts.csv"]
    words += ["--prompts", tmp_path / "prompts.csv", "--features", "pixels", "--threshold", "0.9"]
    code, _, error = mnemoscope(*words, "--metrics", "original_similarity", "--out", tmp_path / "r")
    assert code == 0, error
    assert [row["own_score"] is not None for row in read_rows(tmp_path / "r")] == [True, True]
    summary = read_json(tmp_path / "r" / "summary.json")
    assert summary["reference_captions"]["with_caption"] == 3 and summary["reference_captions"]["unmatched"] == 1
    assert summary["measures"]["original_similarity"]["originals_max_prompts"] == 2
