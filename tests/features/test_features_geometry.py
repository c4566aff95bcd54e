"""Resizing and cropping against stored arrays that were made without PIL, and against transformers' processors."""

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

import geometry_cases as made
from mnemoscope.features.geometry import (
    HALF,
    IMAGENET,
    Geometry,
    centre_crop,
    middle,
    normalised,
    remapped,
    resized,
    squashed_in_float,
)
from places import FIXTURES

STORED = np.load(FIXTURES / "geometry.npz")


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("name", [name for name in made.CASES if name != "in float"])
def test_images_equal_the_stored_ones(name: str) -> None:
    *_, short, square, crop, resample = made.CASES[name]
    geometry = Geometry(short or None, square or None, crop or None, resample)
    found = np.asarray(geometry(Image.fromarray(STORED[f"{name}/given"])))
    expected = STORED[f"{name}/expected"]
    assert found.shape == expected.shape
    difference = abs(found.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.05  # two codes round a few values differently


def test_the_stored_arrays_are_what_their_script_makes() -> None:
    for name, (_, _, *how) in made.CASES.items():
        given = STORED[f"{name}/given"].astype(np.float64 if name == "in float" else np.uint8)
        np.testing.assert_allclose(made.expected(given, *how), STORED[f"{name}/expected"], atol=1e-4)


def test_resizing_in_float_equals_the_stored_one() -> None:
    found = squashed_in_float(Image.fromarray(STORED["in float/given"]), 40)
    np.testing.assert_allclose(found, STORED["in float/expected"].clip(0, 255), atol=0.01)
    assert found.min() == 0 and found.max() == 255 and abs(found - found.round()).max() > 0.4


@pytest.mark.parametrize(
    ("width", "height", "short", "expected"),
    [(640, 480, 288, (384, 288)), (500, 333, 256, (384, 256)), (333, 500, 256, (256, 384)), (7, 7, 3, (3, 3))],
)
def test_the_longer_side_is_cut_and_not_rounded(width: int, height: int, short: int, expected: tuple) -> None:
    assert resized(width, height, short) == expected  # 500 x 256 / 333 = 384.38; the next has 383.96
    assert resized(1023, 683, 256) == (383, 256)


def test_crop_offsets_are_rounded_half_to_even() -> None:
    columns = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8), (60, 1)))
    assert [np.asarray(centre_crop(columns.crop((0, 0, w, 60)), 24))[0, 0] for w in (25, 27, 29, 31)] == [0, 2, 2, 4]


def test_a_very_long_image_shows_its_middle_and_fills_no_memory() -> None:
    long = noise(3000, 4)
    assert Geometry(short=288)(long).size == (2880, 288)
    assert np.array_equal(np.asarray(middle(long)), np.asarray(long)[:, 1480:1520])
    ordinary = noise(40, 4)
    assert middle(ordinary) is ordinary


def test_what_is_smaller_than_the_input_is_enlarged_and_known() -> None:
    assert Geometry(short=288).enlarges(1000, 287) and not Geometry(short=288).enlarges(288, 288)
    assert Geometry(short=256, crop=224).enlarges(255, 300) and not Geometry(short=256, crop=224).enlarges(256, 300)
    assert Geometry(square=320).enlarges(319, 999) and not Geometry().enlarges(1, 1)


@pytest.mark.parametrize("size", [(64, 64), (90, 72), (20, 33), (41, 97)])
def test_clip_images_equal_those_of_its_own_processor(size: tuple[int, int]) -> None:
    """Its crop is one pixel off torchvision's where the offset of 75 pixels to 32 is 21.5: it takes 21, and that 22."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = processor([noise(*size)], return_tensors="np").pixel_values[0]
    ours = np.asarray(Geometry(short=32, crop=32, resample="bicubic")(noise(*size)))
    if size == (41, 97):
        assert Geometry(short=32)(noise(*size)).size == (32, 75)
        ours, expected = ours[:-1], expected[:, 1:]
    statistics = (tuple(processor.image_mean), tuple(processor.image_std))
    np.testing.assert_allclose(normalised(ours, statistics), expected, atol=1e-5)


def test_other_statistics_fit_into_the_levels_of_a_network_with_imagenets_built_in() -> None:
    array = np.asarray(noise(64, 64))
    wanted = normalised(array, HALF)
    level = max(1 / 255 / s for s in IMAGENET[1])
    assert abs(normalised(remapped(array, HALF, IMAGENET), IMAGENET) - wanted).max() <= level / 2 + 1e-6
    assert np.array_equal(remapped(array, IMAGENET, IMAGENET), array)
    with pytest.raises(ValueError, match="do not fit into 8 bits"):
        remapped(array, IMAGENET, HALF)
