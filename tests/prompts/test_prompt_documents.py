"""Prompts as strangers keep them: JSON of many shapes, pictures with captions, tables with holes."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures.captions import read_captions
from mnemoscope.prompts.prompt import left_out, read_prompts

COCO = {
    "info": {"year": 2017},
    "licenses": [{"id": 1, "name": "CC"}],
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "a dog"},
        {"id": 2, "image_id": 7, "caption": "a cat"},
        {"id": 3, "image_id": 7, "caption": "a small cat"},
    ],
}
KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val",
            "filename": "7.jpg",
            "sentids": [1],
            "sentences": [{"raw": "a cat"}, {"raw": "a small cat"}],
        },
        {"filepath": "val", "filename": "8.jpg", "sentids": [2], "sentences": [{"raw": "a dog"}]},
    ],
}
SHAPES: dict[str, tuple[Any, list[str]]] = {
    "captions of DCR": (
        {"/d/1.png": ["a cat", "a small cat"], "/d/2.JPEG": ["a dog"]},
        ["a cat", "a small cat", "a dog"],
    ),
    "one caption a file": ({"1.png": "a cat", "2.png": "a dog"}, ["a cat", "a dog"]),
    "files without ending": ({"000001": ["a cat"], "000002": ["a dog"]}, ["a cat", "a dog"]),
    "kohya": ({"a/1.png": {"caption": "a cat", "tags": "x"}, "a/2.png": {"caption": "a dog"}}, ["a cat", "a dog"]),
    "COCO": (COCO, ["a dog", "a cat", "a small cat"]),
    "COCO's annotations": ({"annotations": COCO["annotations"], "info": {}}, ["a dog", "a cat", "a small cat"]),
    "Karpathy": (KARPATHY, ["a cat", "a small cat", "a dog"]),
    "columns": ({"prompt": ["a cat", "a dog"], "label": [1, 0]}, ["a cat", "a dog"]),
    "a list by name": ({"version": 1, "prompts": ["a cat", "a dog"]}, ["a cat", "a dog"]),
    "objects by name": ({"data": [{"caption": "a cat"}]}, ["a cat"]),
    "attributions": ({"a cat": [["a</w>", 0.1], ["cat</w>", 0.9]], "dog": []}, ["a cat", "dog"]),
    "numbers": ({"a cat": 0.5, "a dog": None}, ["a cat", "a dog"]),
    "results": ({"a cat": {"score": 1.5}, "a dog": {"score": 2}}, ["a cat", "a dog"]),
}
REFUSED: dict[str, Any] = {
    "boxes": {**COCO, "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]},
    "a settings file": {"name": "my set", "version": "1.0", "license": "MIT"},
    "splits": {"train": {"prompts": ["a cat"]}, "test": {"prompts": ["a dog"]}},
    "texts by texts": {"a cat": "a small cat", "a dog": "a big dog"},
    "pandas": {"prompt": {"0": "a cat"}, "label": {"0": 1}},
    "columns of two lengths": {"prompt": ["a cat", "a dog"], "label": [1]},
    "an empty object": {},
    "a number": 5,
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def written(document: Any) -> Path:
        file = tmp_path / "p.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        return file

    return written


@pytest.mark.parametrize("shape", SHAPES)
def test_known_shapes(shape: str, write: Callable) -> None:
    document, expected = SHAPES[shape]
    assert [prompt.text for prompt in read_prompts(write(document))] == expected


def test_prompts_of_pictures_know_their_files(write: Callable) -> None:
    assert [p.source["file"] for p in read_prompts(write(COCO))] == ["8.jpg", "7.jpg", "7.jpg"]
    assert read_prompts(write({"prompt": ["a", "b"], "label": [1, 0]}))[0].label is True


@pytest.mark.parametrize("shape", REFUSED)
def test_other_shapes_are_refused_with_what_was_seen(shape: str, write: Callable) -> None:
    with pytest.raises(
        UsageError, match="no prompts are found; give a list|no prompts in it|it is an object"
    ) as refused:
        read_prompts(write(REFUSED[shape]))
    assert "\n" not in str(refused.value)
    if len(str(REFUSED[shape])) > 3:
        assert repr(next(iter(REFUSED[shape]))) in str(refused.value)


# Captions without text

ROWS: list[dict[str, Any]] = [{"caption": text} for text in ("a cat", None, " ", "a dog", "")]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "json"])
def test_captions_without_text_are_left_out_and_counted(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"p.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    elif suffix == "csv":
        file.write_text("caption,n\n" + "".join(f"{row['caption'] or ''},1\n" for row in ROWS))
    else:
        lines = [json.dumps(row) for row in ROWS]
        file.write_text("\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]")
    found = read_prompts(file)
    assert [prompt.text for prompt in found] == ["a cat", "a dog"] and len(found.empty) == 3
    counted = left_out(found)["empty_prompts"]
    assert counted["count"] == 3 and counted["first"][0].startswith(str(file))
    assert [prompt.text for prompt in read_prompts(file, limit=2)] == ["a cat", "a dog"]  # two prompts, not two rows
    assert left_out(read_prompts(file, limit=1)) == {}


def test_an_empty_one_of_several_captions_is_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": [["a cat", None], [], ["a dog"]]}), tmp_path / "p.parquet")
    found = read_prompts(tmp_path / "p.parquet")
    assert [prompt.text for prompt in found] == ["a cat", "a dog"] and len(found.empty) == 2


# Pictures with captions, as for training

PNG = io.BytesIO()
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(PNG, "PNG")
FILES = {
    "1.png": PNG.getvalue(),
    "1.txt": b"a cat",
    "2.png": PNG.getvalue(),
    "2.caption": b"a dog",
    "3.png": b"no image",
}


def pictures(folder: Path, kind: str) -> Path | str:
    if kind == "tar":
        with tarfile.open(folder / "set.tar", "w") as archive:
            for name, data in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return folder / "set.tar"
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
        return folder / "set.zip"
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_pictures_are_prompts_by_their_captions(kind: str, tmp_path: Path) -> None:
    """No picture is opened: one that is none has a caption all the same, or is counted among those without."""
    found = read_prompts(pictures(tmp_path, kind))
    assert [prompt.text for prompt in found] == ["a cat", "a dog"] and len(found.empty) == 1
    assert found[0].source["file"].endswith(("1.png", ":1"))


def test_captions_of_pictures_in_another_column(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(PNG.getvalue())
    (tmp_path / "metadata.csv").write_text("file_name;description\n1.png;a cat\n")
    assert [prompt.text for prompt in read_prompts(tmp_path, column="description")] == ["a cat"]


def test_parquet_with_images_gives_its_captions(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": PNG.getvalue(), "path": "x"}, "text": "a cat"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.parquet")] == ["a cat"]


INFOTEXT = "a cat\nNegative prompt: ugly, bad\nhands\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"


def test_settings_of_web_interfaces_among_lines_are_no_prompts_and_counted(tmp_path: Path) -> None:
    lines = [
        INFOTEXT,
        "",
        "a dog",
        "Steps: 5, Sampler: DDIM",
        "",
        "a bird",
        "Negative prompt: x",
        "",
        "Steps: up",
    ]
    (tmp_path / "p.txt").write_text("\n".join(lines))
    found = read_prompts(tmp_path / "p.txt")
    assert [prompt.text for prompt in found] == ["a cat", "a dog", "a bird", "Steps: up"]
    mark = "(settings of a web interface)"
    assert found.empty == [f"{tmp_path / 'p.txt'}, line {n} {mark}" for n in (2, 3, 4, 7, 10)]
    assert left_out(found)["empty_prompts"]["count"] == 5


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_settings_beneath_a_prompt_of_a_row_are_not_of_the_prompt(suffix: str, tmp_path: Path) -> None:
    rows = [{"prompt": INFOTEXT}, {"prompt": "two\nlines"}, {"prompt": "Steps: 20, Sampler: Euler"}]
    file = tmp_path / f"p.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif suffix == "csv":
        file.write_text("prompt\n" + "".join(f'"{row["prompt"]}"\n' for row in rows))
    else:
        file.write_text(json.dumps(rows) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    found = read_prompts(file)
    assert [prompt.text for prompt in found] == ["a cat", "two\nlines"] and len(found.empty) == 1


def test_settings_beneath_a_caption_of_a_table_are_not_of_the_caption() -> None:
    rows = [{"file_name": "a.png", "text": INFOTEXT}, {"file_name": "b.png", "text": "Steps: 5, Sampler: DDIM"}]
    told = read_captions("metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert [said.captions for said in told.said.values()] == [("a cat",), ()] and told.empty == 1
