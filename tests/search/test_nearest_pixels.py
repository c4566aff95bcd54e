"""Nearest images over bytes: equal to distances taken one by one in int64, ties and duplicates included."""

from pathlib import Path

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.search import nearest_pixels
from mnemoscope.search.nearest_pixels import first_equal, nearest


def images(seed: int, count: int, pixels: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, pixels), dtype=np.uint8)


def brute(generated: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    squared = np.array([[((x.astype(np.int64) - y) ** 2).sum() for y in reference] for x in generated])
    order = np.array([sorted(range(len(reference)), key=lambda i: (row[i], i))[:k] for row in squared])
    return np.sqrt(np.take_along_axis(squared, order, 1).astype(np.float64)), order


def same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


@pytest.fixture(params=["integers", "floats"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of product: that of int8 matrices and that of float32 slices."""
    if request.param == "floats":
        monkeypatch.setattr(nearest_pixels, "_integers_are_exact", lambda: False)
    elif not nearest_pixels._integers_are_exact():
        pytest.skip("this processor has no exact int8 product")


@pytest.mark.parametrize("pixels", [1, 3, 48, 1025])
def test_equals_brute_force(products: None, pixels: int) -> None:
    for k in (1, 2, 5):
        same(
            nearest(images(0, 9, pixels), images(1, 130, pixels), k),
            brute(images(0, 9, pixels), images(1, 130, pixels), k),
        )


def test_extreme_pixels_are_exact(products: None) -> None:
    """All black against all white: the largest products and distances there are."""
    black, white = np.zeros((1, 12288), np.uint8), np.full((1, 12288), 255, np.uint8)
    distances, indices = nearest(black, np.concatenate([white, black, white]), 3)
    assert indices.tolist() == [[1, 0, 2]]
    assert distances.tolist() == [[0.0, *[np.sqrt(255**2 * 12288)] * 2]]


def test_one_grey_level_in_a_large_image_is_seen(products: None) -> None:
    """Float32 distances lose this: a difference of 1 beside squares of 2^31."""
    image = np.full((1, 70_000), 255, np.uint8)
    near, nearer = image.copy(), image.copy()
    near[0, [5, 60_000]] -= 1
    nearer[0, 69_999] -= 1
    distances, indices = nearest(image, np.concatenate([near, nearer, 0 * image]), 3)
    assert indices.tolist() == [[1, 0, 2]] and distances[0, :2].tolist() == [1.0, np.sqrt(2)]


@pytest.mark.parametrize("tile", [(1, 1), (3, 7), (64, 50), (5, 1000)])
def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch, tile: tuple[int, int]) -> None:
    generated, reference = images(2, 20, 12) // 86, images(3, 300, 12) // 86  # few grey levels: many ties
    expected = brute(generated, reference, 4)
    monkeypatch.setattr(nearest_pixels, "QUERIES", tile[0])
    monkeypatch.setattr(nearest_pixels, "IMAGES", tile[1])
    same(nearest(generated, reference, 4), expected)


def test_duplicates_are_neighbours_unless_distinct() -> None:
    reference = images(4, 60)
    reference[[7, 30, 59]] = reference[3]
    generated = reference[3:4]
    distances, indices = nearest(generated, reference, 4)
    assert indices.tolist() == [[3, 7, 30, 59]] and not distances.any()
    distances, indices = nearest(generated, reference, 2, distinct=True)
    others = np.delete(np.arange(60), [3, 7, 30, 59])
    alone = brute(generated, reference[others], 1)
    assert indices.tolist() == [[3, others[alone[1][0, 0]]]] and distances[0, 1] == alone[0][0, 0]
    assert first_equal(reference)[[3, 7, 30, 59, 8]].tolist() == [3, 3, 3, 3, 8]


def test_distinct_where_a_whole_block_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_pixels, "IMAGES", 4)
    reference = np.concatenate([images(5, 4), images(5, 4), images(6, 3)])
    found = nearest(images(7, 2), reference, 3, distinct=True)
    kept = [0, 1, 2, 3, 8, 9, 10]
    expected = brute(images(7, 2), reference[kept], 3)
    same(found, (expected[0], np.array(kept)[expected[1]]))


def test_own_image_is_excluded() -> None:
    pool = images(8, 40)
    found = nearest(pool, pool, 2, exclude=np.arange(40))
    expected = brute(pool, pool, 3)
    same(found, (expected[0][:, 1:], expected[1][:, 1:]))


def test_fewer_references_than_k() -> None:
    distances, indices = nearest(images(9, 2), images(10, 1), 3)
    assert indices.tolist() == [[0, -1, -1]] * 2 and np.isinf(distances[:, 1:]).all()
    assert (nearest(images(9, 2), images(10, 0), 1)[1] == -1).all()


def test_memory_mapped_reference(tmp_path: Path) -> None:
    np.save(tmp_path / "reference.npy", images(11, 50))
    mapped = np.load(tmp_path / "reference.npy", mmap_mode="r")
    same(nearest(images(12, 3), mapped), brute(images(12, 3), images(11, 50), 2))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda: nearest(images(0, 1), images(0, 1), 0), "k was 0"),
        (lambda: nearest(images(0, 1, 12), images(0, 1, 48)), "12 pixels and the reference 48"),
        (lambda: nearest(images(0, 1).astype(np.float32), images(0, 1)), "float32 and uint8"),
    ],
)
def test_bad_input(wrong, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()
