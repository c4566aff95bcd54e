"""Complexity of images: closed forms, a photograph, and correlations whose samples repeat."""

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.geometry import Geometry
from mnemoscope.measuring.complexity import complexity, entropy, jpeg_size, total_variation
from mnemoscope.measuring.correlation import correlation, pearson, spearman
from mnemoscope.plots.complexity import complexity_plots
from mnemoscope.stats import FEWEST


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut())


def grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def test_entropy_is_that_of_the_histogram() -> None:
    assert entropy(grey(np.full((8, 8), 7))) == 0
    assert entropy(grey(np.arange(256).reshape(16, 16))) == pytest.approx(math.log(256))
    thirds = entropy(grey(np.repeat([10, 20, 20], 4).reshape(3, 4)))
    assert thirds == pytest.approx(math.log(3) - 2 / 3 * math.log(2))
    assert complexity(grey(np.arange(256).reshape(16, 16)))["entropy_bits"] == pytest.approx(8)


def test_entropy_of_a_photograph_is_that_of_scikit_image(astronaut: Image.Image) -> None:
    from skimage.measure import shannon_entropy

    assert entropy(astronaut) == pytest.approx(5.166471, abs=1e-6)
    assert entropy(astronaut) == pytest.approx(shannon_entropy(np.asarray(astronaut.convert("L"))) * math.log(2), 1e-9)
    assert 5.5385 / math.log(2) == pytest.approx(7.9904, abs=1e-4)  # what the two units of the field look like


def test_jpeg_size_of_a_photograph_is_in_kib(astronaut: Image.Image) -> None:
    assert jpeg_size(astronaut) == pytest.approx(66.46, rel=0.02)  # encoders differ by a little
    swapped = Image.fromarray(np.asarray(astronaut)[..., ::-1].copy())
    assert jpeg_size(swapped) > jpeg_size(astronaut) + 0.5  # what blue taken for red costs
    file = io.BytesIO()
    astronaut.save(file, "JPEG", quality=90, subsampling="4:2:0")
    found = complexity(astronaut)
    assert found["jpeg_size"] * 1024 == len(file.getvalue())
    assert found["jpeg_size_per_megapixel"] == pytest.approx(found["jpeg_size"] / (512 * 512 / 1e6))
    assert found["mixed"] == pytest.approx(found["entropy"] * math.sqrt(found["jpeg_size"]))


def test_total_variation_counts_both_directions_and_never_wraps() -> None:
    columns = np.zeros((3, 4))
    columns[:, 1] = 200
    assert total_variation(grey(columns)) == pytest.approx(1e-4 * 3 * (3 * 2 * 200))
    assert total_variation(grey(columns.T)) == pytest.approx(total_variation(grey(columns)))
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    expected = sum(
        abs(int(levels[i + a, j + b, c]) - int(levels[i, j, c]))
        for i, j, c in np.ndindex(9, 7, 3)
        for a, b in ((1, 0), (0, 1))
        if i + a < 9 and j + b < 7
    )
    assert total_variation(Image.fromarray(levels)) == pytest.approx(1e-4 * expected)


def test_transparency_lies_on_white_and_the_published_geometry_is_a_crop(astronaut: Image.Image) -> None:
    assert entropy(Image.new("RGBA", (4, 4), (9, 9, 9, 0))) == 0
    cropped = Geometry(short=224, crop=224)(astronaut.resize((900, 500)))
    assert cropped.size == (224, 224)
    assert complexity(cropped)["jpeg_size"] < complexity(astronaut)["jpeg_size"]


def test_correlations_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 40).astype(float), rng.normal(size=40)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0], rel=1e-12)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0], rel=1e-12)
    assert pearson(3 * b - 1, b) == pytest.approx(1) and np.isnan(pearson(np.full(3, 0.1), np.arange(3.0)))


def test_permutation_p_is_exact_for_few_references() -> None:
    """Against all 120 orders of five references, matched by 1 to 5 images."""
    codes = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    rng = np.random.default_rng(4)
    own, similarity = rng.normal(size=5), rng.normal(size=15) + codes / 2
    found = correlation(similarity, own[codes], codes.tolist(), permutations=4000, resamples=50, fewest=5)
    for name, take in (("pearson", pearson), ("spearman", spearman)):
        value = take(similarity, own[codes])
        orders = [take(similarity, own[list(order)][codes]) for order in itertools.permutations(range(5))]
        exact = np.mean(np.abs(orders) >= abs(value) - 1e-12)
        assert found[name] == pytest.approx(value, rel=1e-12)
        assert found[f"{name}_p"] == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000) + 1 / 4000)


def test_images_of_one_reference_are_no_independent_samples() -> None:
    """Without any relation p is uniform; permuting images instead would find one in most draws."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(8), 25)
    low, naive = 0, 0
    for _ in range(24):
        similarity = rng.normal(size=8)[codes] + rng.normal(size=200) / 10
        own = rng.normal(size=8)
        found = correlation(similarity, own[codes], codes.tolist(), permutations=99, resamples=1, fewest=8)
        low += found["pearson_p"] <= 0.1
        apart = correlation(
            similarity, own[codes] + rng.normal(size=200) * 1e-9, list(range(200)), permutations=99, resamples=1
        )
        naive += apart["pearson_p"] <= 0.1
    assert low <= 7 < 12 <= naive


def test_correlation_finds_a_relation_with_its_interval() -> None:
    rng = np.random.default_rng(1)
    own = rng.normal(size=60)
    codes = rng.integers(0, 60, 200)
    found = correlation(0.8 * own[codes] + 0.3 * rng.normal(size=200), own[codes], codes.tolist())
    assert found["pearson_p"] == 1 / 1001 and found["spearman_p"] == 1 / 1001
    for name in ("pearson", "spearman"):
        low, high = found[f"{name}_interval"]
        assert 0.7 < low < found[name] < high < 1
    assert (found["images"], found["references"]) == (200, len(set(codes.tolist())))
    again = correlation(0.8 * own[codes], own[codes], codes.tolist(), seed=3, resamples=20)
    assert again == correlation(0.8 * own[codes], own[codes], codes.tolist(), seed=3, resamples=20)


def test_correlation_of_too_little_is_none_and_said() -> None:
    found = correlation(np.array([0.1, 0.2, 0.3]), np.array([1.0, 1, 2]), ["a", "a", "b"])
    assert found["pearson"] is None and found["spearman_p"] is None and "three matched" in found["notes"][0]
    constant = correlation(np.array([0.1, 0.2, 0.3]), np.ones(3), ["a", "b", "c"])
    assert constant["pearson_interval"] is None


def test_a_p_needs_enough_references_and_the_correlation_is_said_all_the_same() -> None:
    rng = np.random.default_rng(5)
    for count in (FEWEST - 1, FEWEST):
        own = rng.normal(size=count)
        found = correlation(own + rng.normal(size=count), own, list(range(count)), permutations=20, resamples=5)
        assert (found["pearson_p"] is None, found["spearman_p"] is None) == (count < FEWEST,) * 2
        assert found["pearson"] > 0 and bool(found["notes"]) == (count < FEWEST)
        assert not found["notes"] or f"{count} matched references are too few for a p" in found["notes"][0]


def test_correlation_refuses_what_does_not_fit() -> None:
    x = np.arange(3.0)
    with pytest.raises(UsageError, match="3 similarities came with 2 quantities"):
        correlation(x, x[:2], ["a", "b", "c"])
    with pytest.raises(UsageError, match="two different quantities"):
        correlation(x, x, ["a", "a", "b"])
    with pytest.raises(UsageError, match="NaN or infinite"):
        correlation(np.array([0, np.nan, 1]), x, ["a", "b", "c"])
    with pytest.raises(UsageError, match="0 permutations"):
        correlation(x, x, ["a", "b", "c"], permutations=0)


def test_each_measure_of_complexity_has_a_scatter_plot_of_its_own() -> None:
    rng = np.random.default_rng(0)
    quantities = {name: rng.normal(size=30) for name in ("entropy", "jpeg_size", "total_variation", "mixed")}
    said = {"entropy": {"pearson": -0.4, "pearson_p": 0.01, "spearman": None}}
    said |= {"mixed": {"pearson": 0.2, "pearson_p": None}}
    figures = complexity_plots(rng.normal(size=30), quantities, said)
    assert list(figures) == list(quantities)
    for name, figure in figures.items():
        (axes,) = figure.axes
        assert np.array_equal(axes.collections[0].get_offsets()[:, 0], quantities[name])
        known = {"entropy": "Pearson r -0.40 (p = 0.01)", "mixed": "Pearson r 0.20"}
        assert axes.get_title() == known.get(name, "")
    assert len({figure.axes[0].get_xlabel() for figure in figures.values()}) == 4
    with pytest.raises(UsageError, match="one complexity for each"):
        complexity_plots(np.zeros(0), {}, {})
