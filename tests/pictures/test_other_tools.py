"""Pictures and captions as other tools leave them: read, refused with what was seen, or named as unread."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures import open_source
from mnemoscope.pictures.decoding import decoded
from mnemoscope.prompts.prompt import read_prompts
from picture_files import encoded, image, tarred

A, B = (encoded(image(k, 40, 40)) for k in range(2))
META = {"a": {"caption": "A", "tags": "x, y"}, "/data/b": {"caption": "B"}}
COCO = {"images": [{"id": "1", "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "A"}]}
WEBUI = "A fox, at night\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"file_name": ["a.png", "b.png"], "text": ["A", "B"]}), buffer)
    return buffer.getvalue()


def folder(path: Path, **files: bytes | str) -> Path:
    for name, data in {"a.png": A, "b.png": B, **files}.items():
        (path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def captions(path: Path, **files: bytes | str) -> list[tuple[str, ...]]:
    return [picture.captions for picture in open_source(folder(path, **files))]


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("meta_cap.json", json.dumps(META), ["A", "B"]),
        ("meta_lat.json", json.dumps(META), ["A", "B"]),
        ("metadata.parquet", parquet(), ["A", "B"]),
        ("captions.json", json.dumps(COCO), ["A", ""]),
        ("a.txt", "A café".encode("utf-16"), ["A café", ""]),
        ("a.txt", "café".encode("latin-1"), ["", ""]),
        ("a.txt", b"A\0B", ["", ""]),
        ("a.txt", WEBUI, ["A fox, at night", ""]),
        ("a.txt", WEBUI.replace("Negative prompt: blurry\n", ""), ["A fox, at night", ""]),
        ("a.txt", "Steps: how to climb them", ["Steps: how to climb them", ""]),
        ("a.json", json.dumps("A"), ["A", ""]),
        ("a.json", json.dumps([1, 2]), ["", ""]),
    ],
)
def test_captions_of_other_tools(name: str, data: bytes | str, found: list[str], tmp_path: Path) -> None:
    assert captions(tmp_path, **{name: data}) == [(text,) if text else () for text in found]


def test_a_part_of_diffusiondb_has_its_prompts_and_seeds(tmp_path: Path) -> None:
    for k in (1, 2):
        Image.new("RGB", (8, 8), (40 * k, 0, 0)).save(tmp_path / f"{k}.png")
    told = {f"{k}.png": {"p": f"prompt {k}", "se": 7 + k, "c": 7.0, "st": 50, "sa": "k_lms"} for k in (1, 2)}
    (tmp_path / "part-000001.json").write_text(json.dumps(told))
    found = list(open_source(tmp_path))
    assert [(p.captions, p.seed) for p in found] == [(("prompt 1",), 8), (("prompt 2",), 9)]
    assert [p.text for p in read_prompts(tmp_path / "part-000001.json")] == ["prompt 1", "prompt 2"]


def test_a_list_of_texts_beside_a_picture_is_its_captions(tmp_path: Path) -> None:
    assert captions(tmp_path, **{"a.json": json.dumps(["A", "AA"])}) == [("A", "AA"), ()]


@pytest.mark.parametrize("name", ["results.csv", "Flickr8k.token.txt", "list.json"])
def test_tables_under_another_name_are_named_where_nothing_else_has_captions(name: str, tmp_path: Path) -> None:
    assert open_source(folder(tmp_path, **{name: "a.png,A\n"})).unmatched == [name]
    assert (
        open_source(folder(tmp_path, **{"captions.jsonl": json.dumps({"file": "a.png", "text": "A"})})).unmatched == []
    )


def test_captions_that_hold_no_texts_are_refused(tmp_path: Path) -> None:
    talk: list[dict[str, Any]] = [{"image": "a.png", "conversations": [{"from": "human", "value": "Describe it"}]}]
    with pytest.raises(UsageError, match="no column caption .* among image, conversations"):
        captions(tmp_path, **{"captions.json": json.dumps(talk)})


def test_a_later_member_of_a_name_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    file = tarred(tmp_path / "a.tar", [("a.png", A), ("a.txt", "A"), ("a.png", B), ("a.txt", "B")])
    first, last = open_source(file)
    assert last.data() == B and last.captions == ("B",)
    with pytest.raises(Exception, match="another file of this name comes later"):
        first.data()


def test_tars_one_behind_the_other_in_a_file_are_all_read(tmp_path: Path) -> None:
    parts = [
        tarred(tmp_path / f"{k}.tar", [(f"{k}.png", data), (f"{k}.txt", f"c{k}")]) for k, data in enumerate((A, B))
    ]
    (tmp_path / "both.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    found = list(open_source(tmp_path / "both.tar"))
    assert [(p.data(), p.captions) for p in found] == [(A, ("c0",)), (B, ("c1",))]
    (tmp_path / "junk.tar").write_bytes(parts[0].read_bytes() + b"junk" * 200)
    first, damage = open_source(tmp_path / "junk.tar")
    assert first.data() == A
    with pytest.raises(Exception, match="the tar file is damaged"):
        damage.data()
    whole = tarred(tmp_path / "whole.tar", [("a.png", A), ("b.png", B), ("c.png", A)]).read_bytes()
    place = whole.index(b"b.png")
    (tmp_path / "bad.tar").write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    assert [p.key for p in open_source(tmp_path / "bad.tar")] == [
        "bad.tar:a",
        "bad.tar",
    ]  # b and c are not dropped unsaid
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    assert list(open_source(tmp_path / "empty.tar")) == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(len(A))])
def test_every_type_of_bytes_in_parquet_is_images(kind: pa.DataType, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([A], kind), "caption": ["A"]}), tmp_path / "a.parquet")
    (picture,) = open_source(tmp_path / "a.parquet")
    assert picture.data() == A and picture.captions == ("A",)


@pytest.mark.parametrize("most", [255, 1023, 65535])
def test_grey_maps_of_any_depth_are_as_bright_as_those_of_eight_bits(most: int) -> None:
    levels = np.linspace(0, most, 64).round().astype(">u2" if most > 255 else np.uint8).reshape(8, 8)
    found = np.asarray(decoded(b"P5 8 8 %d\n" % most + levels.tobytes()))[..., 0].astype(int)
    assert np.abs(found - levels.astype(float) / most * 255).max() <= 1


def test_labels_of_a_picture_are_no_pictures(tmp_path: Path) -> None:
    names = ["a.jpg", "a-masklabel.png", "a-condlabel.png", "b-masklabel.png", "sub/a-masklabel.png", "sub/c.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), "white").save(tmp_path / name)
    assert [p.key for p in open_source(tmp_path)] == ["a.jpg", "b-masklabel.png", "sub/a-masklabel.png", "sub/c.png"]
