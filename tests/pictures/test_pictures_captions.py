"""Captions as strangers keep them: any spelling of a name, several rows, other tables; and what fits no picture."""

import io
import json
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures import open_source, read_pictures
from mnemoscope.pictures.counting import caption_counts, sentence

NFD = unicodedata.normalize("NFD", "café")


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def source(folder: Path, kind: str, files: dict[str, bytes | str]) -> Path:
    """The same files in a folder, a zip or a tar."""
    data = {name: each.encode() if isinstance(each, str) else each for name, each in files.items()}
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for name, each in data.items():
                archive.writestr(name, each)
        return folder / "set.zip"
    if kind == "tar":
        with tarfile.open(folder / "set.tar", "w") as archive:
            for name, each in data.items():
                info = tarfile.TarInfo("./" + name)
                info.size = len(each)
                archive.addfile(info, io.BytesIO(each))
        return folder / "set.tar"
    for name, each in data.items():
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(each)
    return folder / "set"


def rows(*pairs: tuple[str, object], file: str = "file_name", text: str = "text") -> str:
    return "".join(json.dumps({file: name, text: caption}) + "\n" for name, caption in pairs)


PAIR = {"a.png": png(0), "b.png": png(1)}
BOTH = [("one fox",), ("two bees",)]
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [{"image_id": 2, "caption": "two bees"}, {"image_id": 1, "caption": "one fox"}],
}
FITS: dict[str, tuple[dict[str, bytes | str], list[tuple[str, ...]]]] = {
    "several rows": (
        {**PAIR, "metadata.csv": "file_name,text\na.png,one fox\na.png,a fox\na.png,one fox\nb.png,two bees\n"},
        [("one fox", "a fox"), ("two bees",)],
    ),
    "rows of two files": (
        {
            **PAIR,
            "captions.json": '{"a.png": ["one fox"]}',
            "captions.jsonl": rows(("a.png", "a fox"), ("b.png", "two bees")),
        },
        [("one fox", "a fox"), ("two bees",)],
    ),
    "lists": (
        {**PAIR, "captions.jsonl": rows(("a.png", ["one fox", "a fox"]), ("b.png", "two bees"))},
        [("one fox", "a fox"), ("two bees",)],
    ),
    "without ending": ({**PAIR, "metadata.csv": "file_name,text\na,one fox\nb,two bees\n"}, BOTH),
    "another ending": ({**PAIR, "metadata.jsonl": rows(("a.jpg", "one fox"), ("b.JPEG", "two bees"))}, BOTH),
    "another case": ({**PAIR, "metadata.jsonl": rows(("A.PNG", "one fox"), ("B.png", "two bees"))}, BOTH),
    "composed letters": (
        {"b.png": png(1), f"{NFD}.png": png(0), "metadata.jsonl": rows(("café.png", "one fox"), ("b.png", "two bees"))},
        [("two bees",), ("one fox",)],
    ),
    "decomposed letters": (
        {"b.png": png(1), "café.png": png(0), "metadata.jsonl": rows((f"{NFD}.png", "one fox"), ("b.png", "two bees"))},
        [("two bees",), ("one fox",)],
    ),
    "semicolons": ({**PAIR, "metadata.csv": "file_name;text\na.png;one fox\nb.png;two bees\n"}, BOTH),
    "bars": (
        {**PAIR, "captions.csv": "image_name| comment_number| caption\na.png| 0| one fox\nb.png| 0| two bees\n"},
        BOTH,
    ),
    "tabs": ({**PAIR, "captions.tsv": "filepath\ttitle\na.png\tone fox\nb.png\ttwo bees\n"}, BOTH),
    "a header of its own case": ({**PAIR, "captions.txt": "Image,Caption\na.png,one fox\nb.png,two bees\n"}, BOTH),
    "no header": (
        {**PAIR, "captions.txt": "a.png#0\tone fox\na.png#1\ta fox\nb.png#0\ttwo bees\n"},
        [("one fox", "a fox"), ("two bees",)],
    ),
    "byte order mark": (
        {**PAIR, "metadata.csv": b"\xef\xbb\xbffile_name,text\r\na.png,one fox\r\nb.png,two bees"},
        BOTH,
    ),
    "COCO": ({**{f"val/{n}": d for n, d in PAIR.items()}, "val/captions_val.json": json.dumps(COCO)}, BOTH),
    "COCO's root": (
        {**{f"val/{n}": d for n, d in PAIR.items()}, "annotations/captions_val.json": json.dumps(COCO)},
        BOTH,
    ),
    "COCO beside its folder": (
        {**{f"val/{n}": d for n, d in PAIR.items()}, "captions_val.json": json.dumps(COCO)},
        BOTH,
    ),
    "a list of objects": (
        {
            **PAIR,
            "captions.json": json.dumps(
                [{"image": "a.png", "caption": "one fox"}, {"image": "b.png", "caption": "two bees"}]
            ),
        },
        BOTH,
    ),
    "kohya": (
        {**PAIR, "captions.json": json.dumps({"a.png": {"caption": "one fox"}, "b.png": {"caption": "two bees"}})},
        BOTH,
    ),
    "numbered metadata": (
        {**PAIR, "metadata1000.jsonl": rows(("a.png", "one fox"), ("b.png", "two bees"), file="image", text="caption")},
        BOTH,
    ),
    "another machine": (
        {
            **{f"x/{n}": d for n, d in PAIR.items()},
            "captions.json": json.dumps({"C:\\data\\x\\a.png": ["one fox"], "/srv/x/b.png": ["two bees"]}),
        },
        BOTH,
    ),
    "texts in another case": ({"a.PNG": png(0), "a.TXT": "one fox", "b.png": png(1), "b.Caption": "two bees"}, BOTH),
    "texts named after the whole file": ({**PAIR, "a.png.txt": "one fox", "b.png.txt": "two bees"}, BOTH),
    "json beside": ({**PAIR, "a.json": '{"caption": "one fox"}', "b.json": '{"text": "x"}', "b.txt": "two bees"}, BOTH),
    "names with dots": (
        {"p.v1.0.png": png(0), "p.v1.0.txt": "one fox", "p.v1.1.png": png(1), "p.v1.1.txt": "two bees"},
        BOTH,
    ),
    "crops": ({"cat.crop.png": png(0), "cat.crop.txt": "one fox", "cat.png": png(1), "cat.txt": "two bees"}, BOTH),
    "labels only where nothing is said": (
        {**PAIR, "dataset.json": '{"labels": [["a.png", 3], ["b.png", 4]]}', "captions.json": '{"a.png": "one fox"}'},
        [("one fox",), ("4",)],
    ),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("layout", FITS)
def test_captions_fit_in_every_kind_of_source(layout: str, kind: str, tmp_path: Path) -> None:
    files, expected = FITS[layout]
    opened = open_source(source(tmp_path, kind, files))
    found = list(opened)
    assert [picture.captions for picture in found] == expected and opened.unmatched == []
    assert all(picture.image().size == (8, 8) for picture in found)


# What fits nothing is counted

LOST: dict[str, tuple[dict[str, bytes | str], list[tuple[str, ...]], list[str], int]] = {
    "no picture": (
        {**PAIR, "metadata.jsonl": rows(("a.png", "one fox"), ("gone.png", "x"))},
        [("one fox",), ()],
        ["metadata.jsonl: gone.png"],
        0,
    ),
    "two pictures in another case": (
        {"a.png": png(0), "A.png": png(1), "metadata.jsonl": rows(("a.PNG", "x"))},
        [(), ()],
        ["metadata.jsonl: a.PNG"],
        0,
    ),
    "two folders, one name": (
        {**PAIR, "metadata.jsonl": rows(("train/a.png", "x"), ("val/a.png", "y"))},
        [(), ()],
        ["metadata.jsonl: train/a.png", "metadata.jsonl: val/a.png"],
        0,
    ),
    "the exact name wins": (
        {**PAIR, "metadata.jsonl": rows(("a.png", "one fox"), ("a.jpg", "x"))},
        [("one fox",), ()],
        ["metadata.jsonl: a.jpg"],
        0,
    ),
    "empty": ({**PAIR, "metadata.jsonl": rows(("a.png", None), ("b.png", " "))}, [(), ()], [], 2),
    "no name": (
        {**PAIR, "metadata.jsonl": rows(("a.png", "one fox"), ("", "x"))},
        [("one fox",), ()],
        ["metadata.jsonl: metadata.jsonl, line 2: no name"],
        0,
    ),
    "texts of no picture": ({**PAIR, "a.txt": "one fox", "c.txt": "x"}, [("one fox",), ()], ["c.txt"], 0),
    "called like captions": (
        {**PAIR, "captions_old.csv": "n,m\n1,2\n", "a.txt": "one fox"},
        [("one fox",), ()],
        ["captions_old.csv"],
        0,
    ),
    "of two pictures of a name": (
        {"p/a.png": png(0), "q/a.png": png(1), "said/captions.json": '{"a.png": "one fox"}'},
        [(), ()],
        ["said/captions.json: a.png"],
        0,
    ),
    "of another folder's picture": (
        {"p/a.png": png(0), "q/b.png": png(1), "p/captions.json": '{"b.png": "one fox"}'},
        [(), ()],
        ["p/captions.json: b.png"],
        0,
    ),
    "boxes": (
        {**PAIR, "metadata.jsonl": '{"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]]}}\n'},
        [(), ()],
        [],
        0,
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_captions_that_fit_nothing_are_counted(case: str, tmp_path: Path) -> None:
    files, expected, lost, empty = LOST[case]
    opened = open_source(source(tmp_path, "folder", files))
    found = [picture.captions for picture in opened]
    assert sorted(found) == sorted(expected) and opened.unmatched == lost and opened.empty == empty
    counts = caption_counts(map(bool, found), opened)
    assert counts["with_caption"] + counts["without_caption"] == 2 and counts["unmatched"] == len(lost)
    assert sentence(counts, "pictures").startswith(f"{counts['with_caption']} of 2 pictures have a caption")


REFUSED = {
    "another column": (
        "metadata.csv",
        "file_name,description\na.png,one fox\n",
        "no column caption .* among file_name, description",
    ),
    "no names": ("metadata.csv", "text,n\none fox,1\n", "no column names a picture"),
    "ragged": ("metadata.csv", "file_name,text\na.png,one fox, and more\n", "3 fields where the header has 2"),
    "nested": ("captions.json", "[" * 20_000, "nested too deeply"),
    "nested lines": ("captions.jsonl", '{"file": ' * 20_000, "nested too deeply"),
    "digits": ("captions.jsonl", '{"file": "a.png", "n": ' + "9" * 5000 + "}", "too many digits"),
    "another object": ("captions.json", '{"info": {"a": 1}, "licenses": []}', "an object with the keys 'info'"),
    "a number": ("captions.json", "5", "holds a int"),
    "UTF-16": ("metadata.csv", "file_name,text\n".encode("utf-16"), "not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    name, text, said = REFUSED[case]
    with pytest.raises(UsageError, match=said) as refused:
        open_source(source(tmp_path, "folder", {**PAIR, name: text}))
    assert "\n" not in str(refused.value) and "NoneType" not in str(refused.value)


def test_a_column_of_captions_is_named(tmp_path: Path) -> None:
    files = {**PAIR, "metadata.csv": "file_name,description,text\na.png,one fox,x\nb.png,two bees,y\n"}
    found = read_pictures(source(tmp_path, "folder", files), column="description")
    assert [picture.captions for picture in found] == BOTH


def test_half_characters_in_captions_can_be_stored(tmp_path: Path) -> None:
    (found,) = read_pictures(source(tmp_path, "folder", {"a.png": png(0), "captions.json": '{"a.png": ["x \\ud800"]}'}))
    assert found.caption == "x \\ud800" and found.caption.encode()
