"""Reference images and the pixel vectors that compare them."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope import features
from mnemoscope.errors import UsageError
from mnemoscope.features.references import Reference, read_references


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
    assert cosine(Reference(tmp_path / "a.png").image(), expected) == pytest.approx(1, abs=1e-5)
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
    assert [(r.file.name, r.caption, r.kind) for r in read.items] == [
        ("a.png", "first\u2028image", "verbatim"),
        ("b.PNG", None, None),
        ("c.webp", "third", None),
    ]
    assert read.unread == [] and read.vectors.shape == (3, 32 * 32 * 3)


def test_the_nearest_reference_is_the_copy(folder: Path) -> None:
    read = read_references(folder)
    best, similarity = read.nearest([noise(2), noise(0), scaled(noise(1), 0.5, 30), noise(9)])
    assert best.tolist()[:3] == [2, 0, 1] and similarity[:3] == pytest.approx(1, abs=1e-3) and abs(similarity[3]) < 0.2


def test_the_reference_of_the_same_caption_is_found_however_unlike_it_is(folder: Path) -> None:
    read = read_references(folder)
    assert read.own(noise(2), "third") == pytest.approx(1)
    assert abs(read.own(noise(2), "first\u2028image") or 1) < 0.2
    assert read.own(noise(2), "second") is None


def test_unread_files_are_listed_and_the_others_kept(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "empty.jpg").touch()
    read = read_references(folder)
    assert read.unread == ["broken.png", "cut.png", "empty.jpg"] and len(read.items) == len(read.vectors) == 3
    assert read.nearest([noise(2)])[0].tolist() == [2]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
@pytest.mark.filterwarnings("ignore")  # what Pillow says of damaged files
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


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder .*nowhere; give a folder of images"):
        read_references(tmp_path / "nowhere")


def test_a_folder_without_images_is_refused_with_the_suffixes(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(UsageError, match=r"holds no image \(\.png, \.jpg"):
        read_references(tmp_path)


def test_a_folder_of_broken_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UsageError, match="None of the references is a readable image"):
        read_references(tmp_path)


@pytest.mark.parametrize("line", ["{", "5", '{"caption": "a"}', '["a.png"]', '{"file": ["a.png"]}'])
def test_broken_captions_are_refused(folder: Path, line: str) -> None:
    (folder / "captions.jsonl").write_text(line)
    with pytest.raises(UsageError, match=r"captions\.jsonl needs one object a line") as refused:
        read_references(folder)
    assert "\n" not in str(refused.value)
