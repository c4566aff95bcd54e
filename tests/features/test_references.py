"""Reference images and the pixel vectors that compare them."""

import io
import json
import os
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from mnemoscope import features
from mnemoscope.errors import UsageError
from mnemoscope.features.references import read_references
from mnemoscope.pictures import read_pictures
from mnemoscope.pictures.counting import sentences
from mnemoscope.search.build import build_index


def noise(seed: int, size: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def cosine(a: Image.Image, b: Image.Image) -> float:
    return float(features.pixels([a])[0] @ features.pixels([b])[0])


def scaled(image: Image.Image, contrast: float, brightness: float) -> Image.Image:
    return Image.fromarray((np.asarray(image) * contrast + brightness).round().astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them in a sub-folder, and captions for two of them."""
    (tmp_path / "deep").mkdir()
    for k, name in enumerate(["a.png", "b.PNG", "deep/c.webp"]):
        noise(k).save(tmp_path / name, lossless=True)
    captions = [
        {"file": "a.png", "caption": "first\u2028image", "kind": "verbatim"},
        {"file": "deep/c.webp", "caption": "third"},
    ]
    text = "\n".join(json.dumps(c, ensure_ascii=False) for c in captions)
    (tmp_path / "captions.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


# Pixel vectors


def test_vectors_have_unit_length() -> None:
    vectors = features.pixels([noise(k, size) for k, size in enumerate([8, 32, 100])])
    assert vectors.shape == (3, 32 * 32 * 3) and np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_an_image_of_one_colour_has_no_direction_and_no_nan() -> None:
    vectors = features.pixels([Image.new("RGB", (40, 40), (200, 30, 90)), noise(0)])
    assert abs(vectors[0]).max() < 1e-9 and np.isfinite(vectors).all()


def test_a_copy_has_cosine_one_and_independent_noise_about_zero() -> None:
    assert cosine(noise(0), noise(0).copy()) == pytest.approx(1)
    assert max(abs(cosine(noise(0), noise(k))) for k in range(1, 10)) < 5 / np.sqrt(32 * 32 * 3)


@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 0.0), (0.5, 0.0), (0.5, 100.0), (-1.0, 255.0)])
def test_brightness_and_contrast_do_not_count_but_a_negative_does(contrast: float, brightness: float) -> None:
    assert cosine(noise(0), scaled(noise(0), contrast, brightness)) == pytest.approx(np.sign(contrast), abs=1e-3)


def test_a_tint_of_one_channel_does_not_count() -> None:
    tinted = np.asarray(scaled(noise(0), 0.5, 0)) + np.array([0, 100, 20], dtype=np.uint8)
    assert cosine(noise(0), Image.fromarray(tinted)) == pytest.approx(1, abs=1e-3)


def test_a_shifted_image_is_no_copy() -> None:
    shifted = Image.fromarray(np.roll(np.asarray(noise(0)), 7, axis=1))
    assert cosine(noise(0), shifted) < 0.2


def test_the_size_of_an_image_does_not_count() -> None:
    assert cosine(noise(0), noise(0).resize((96, 96), Image.Resampling.NEAREST)) == pytest.approx(1)


def test_a_vector_does_not_depend_on_the_rest_of_the_batch() -> None:
    images = [noise(k, 16 + 8 * k) for k in range(6)]
    together = features.pixels(images)
    assert all(np.array_equal(together[k], features.pixels([image])[0]) for k, image in enumerate(images))


def half_transparent(mode: str) -> Image.Image:
    """Noise on the left; on the right what is seen through: black in the file, white on paper."""
    image = noise(0)
    image.paste((0, 0, 0), (16, 0, 32, 32))
    if mode.startswith("P"):
        few = noise(0).quantize(63)
        few.putpalette([*few.getpalette()[: 3 * 63], 0, 0, 0])
        few.paste(63, (16, 0, 32, 32))
        few.info["transparency"] = 63 if mode == "P" else bytes([254] + [255] * 62 + [0])
        return few
    image.putalpha(Image.fromarray(np.repeat([[255] * 16 + [0] * 16], 32, axis=0).astype(np.uint8)))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P with an alpha for each colour"])
def test_transparent_images_lie_on_white_also_when_read_from_a_file(tmp_path: Path, mode: str) -> None:
    clear = half_transparent(mode)
    expected, wrong = clear.convert("RGBA").convert("RGB"), clear.convert("RGBA").convert("RGB")
    expected.paste((255, 255, 255), (16, 0, 32, 32))
    wrong.paste((0, 0, 0), (16, 0, 32, 32))
    clear.save(tmp_path / "a.png")
    assert cosine(read_references(tmp_path).items[0].image(), expected) == pytest.approx(1, abs=1e-5)
    with Image.open(tmp_path / "a.png") as read:
        assert cosine(read, expected) == pytest.approx(1, abs=1e-5)
    assert cosine(clear, wrong) < 0.5


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "I;16", "P"])
def test_other_colour_modes_are_compared_as_rgb(mode: str) -> None:
    grey = noise(0).convert("L")
    image = noise(0).convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(grey).astype(np.uint16))
    assert features.pixels([image]).shape == (1, 32 * 32 * 3)


# References


def test_a_folder_is_read_with_its_sub_folders_and_captions(folder: Path) -> None:
    read = read_references(folder)
    assert [(r.key, r.caption, r.kind) for r in read.items] == [
        ("a.png", "first\u2028image", "verbatim"),
        ("b.PNG", None, None),
        ("deep/c.webp", "third", None),
    ]
    assert read.unread == [] and read.vectors.shape == (3, 32 * 32 * 3)


def test_the_nearest_reference_is_the_copy(folder: Path) -> None:
    read = read_references(folder)
    best, similarity = read.nearest([noise(2), noise(0), scaled(noise(1), 0.5, 30), noise(9)])
    assert best.tolist()[:3] == [2, 0, 1] and similarity[:3] == pytest.approx(1, abs=1e-3) and abs(similarity[3]) < 0.2


def test_the_reference_of_the_same_caption_is_found_however_unlike_it_is(folder: Path) -> None:
    read = read_references(folder)
    assert read.own(noise(2), " third ") == pytest.approx(1)
    assert abs(read.own(noise(2), "first image") or 1) < 0.2  # spaces of any kind are one
    assert read.own(noise(2), "second") is None


def test_a_caption_of_two_pictures_is_compared_with_both(folder: Path) -> None:
    """The nearer one counts, whichever comes first, in any normal form of Unicode; and any caption of a picture."""
    rows = [{"file": "a.png", "caption": ["the cafe\u0301", "a view"]}, {"file": "b.PNG", "caption": "the caf\u00e9"}]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_references(folder)
    for k in (0, 1):
        assert read.own(noise(k), "the caf\u00e9") == pytest.approx(1)
    assert read.own(noise(0), "a view") == pytest.approx(1) and abs(read.own(noise(1), "a view")) < 0.2


def test_captions_are_counted(folder: Path) -> None:
    rows = [{"file": "a.png", "caption": "x"}, {"file": "b.PNG", "caption": None}, {"file": "gone.png", "caption": "y"}]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_references(folder).summary()["reference_captions"]
    assert (found["with_caption"], found["without_caption"], found["unmatched"], found["empty"]) == (1, 2, 1, 1)
    assert found["unmatched_names"] == ["captions.jsonl: gone.png"]
    (said,) = sentences({"reference_captions": found, "captions": 5})
    assert said == (
        "1 of 3 references have a caption; 1 captions or texts fit no picture (captions.jsonl: gone.png); "
        "1 rows of captions files have no text."
    )


@pytest.mark.parametrize(
    "edit", [{"with_caption": "\0"}, {"unmatched": [1]}, {"empty": 10**400}, {"unmatched_names": 3}]
)
def test_counts_that_were_edited_are_left_out(edit: dict[str, object]) -> None:
    counts = {"with_caption": 1, "without_caption": 0, "unmatched": 1, "empty": 1, "unmatched_names": ["a.png"]}
    assert len(sentences({"reference_captions": counts})) == 1
    assert sentences({"reference_captions": counts | edit, "empty_prompts": {"count": "x", "first": 3}}) == []


def test_a_turned_and_a_deep_reference_are_what_they_show(tmp_path: Path) -> None:
    """A phone's file, stored turned, and one of 16 bits a channel are compared upright and in their own grey."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    grey = noise(1).convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "scan.png")
    best, similarity = read_references(tmp_path).nearest([noise(0), grey.convert("RGB")])
    assert best.tolist() == [0, 1] and similarity == pytest.approx(1)


def source_of(folder: Path, kind: str, tmp_path: Path) -> Path:
    """The pictures and captions of the folder in another kind of source."""
    names, out = ["a.png", "b.PNG", "deep/c.webp"], tmp_path / f"out.{kind}"
    if kind == "tar":
        with tarfile.open(out, "w") as archive:
            archive.add(folder, ".", filter=lambda m: None if "out." in m.name else m)
    elif kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name in (*names, "captions.jsonl"):
                archive.write(folder / name, name)
    elif kind == "parquet":
        said = {p.key: p.caption for p in read_pictures(folder)}
        rows = [{"image": (folder / n).read_bytes(), "caption": said[n], "kind": "verbatim"} for n in names]
        pq.write_table(pa.Table.from_pylist(rows), out)
    elif kind == "index":
        build_index(folder, out, features.descriptor("pixels"))
    return out


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet", "index"])
def test_references_come_from_any_source(folder: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    read = read_references(source_of(folder, kind, tmp_path_factory.mktemp("other")))
    assert [r.caption for r in read.items] == ["first\u2028image", None, "third"]
    assert read.nearest([noise(k) for k in (2, 0, 1)])[0].tolist() == [2, 0, 1]
    assert read.own(noise(2), "third") == pytest.approx(1) and read.captions["with_caption"] == 2


def test_an_index_whose_pictures_have_changed_is_no_reference(folder: Path, tmp_path: Path) -> None:
    index = source_of(folder, "index", tmp_path.parent / "indexes")
    noise(5).save(folder / "a.png")
    (folder / "new.png").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(UsageError, match="has changed since"):
        read_references(index)


def test_unread_files_are_listed_with_their_reason_and_the_others_kept(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "empty.jpg").touch()
    (folder / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # for no program
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "a" * 80_000_000, zip=True)
    noise(3).save(folder / "text.png", pnginfo=info)
    os.mkfifo(folder / "pipe.png")
    read = read_references(folder)
    assert [each.partition(":")[0] for each in read.unread] == [
        "broken.png", "cut.png", "empty.jpg", "page.png", "pipe.png", "text.png",
    ]  # fmt: skip
    assert "pipe.png: not a regular file" in read.unread and "page.png: text, not an image" in read.unread
    assert len(read.items) == len(read.vectors) == 3 and read.nearest([noise(2)])[0].tolist() == [2]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_damaged_file_is_either_read_or_listed_and_never_a_crash(tmp_path: Path, kind: str) -> None:
    rng, buffer = random.Random(0), io.BytesIO()
    noise(0).save(buffer, kind)
    for k in range(150):
        data = bytearray(buffer.getvalue())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(min(len(data), 200) if k % 2 else len(data))] = rng.randrange(256)
        (tmp_path / f"{k}.png").write_bytes(data[: rng.randrange(1, len(data))] if k % 5 == 0 else data)
    noise(1).save(tmp_path / "whole.png")
    read = read_references(tmp_path)
    assert len(read.items) + len(read.unread) == 151 and len(read.unread) > 10


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nowhere", None, "There is nothing at .*nowhere; give a folder"),
        ("none", ("readme.md", "no image"), "holds no image"),
        ("broken", ("a.png", "no image"), r"None of the references is a readable image \(a.png: text, not an image\)"),
        *(
            ("bad", ("captions.jsonl", line), r"captions\.jsonl")
            for line in ("{", "5", '{"caption": "a"}', "[" * 20_000)
        ),
    ],
)
def test_what_is_no_source_of_references_is_refused(tmp_path: Path, name: str, text: tuple | None, said: str) -> None:
    if text:
        (tmp_path / name).mkdir()
        (tmp_path / name / text[0]).write_text(text[1])
    if name == "bad":
        noise(0).save(tmp_path / name / "a.png")
    with pytest.raises(UsageError, match=said) as refused:
        read_references(tmp_path / name)
    assert "\n" not in str(refused.value) and "NoneType" not in str(refused.value)
