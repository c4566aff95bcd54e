"""Distances of distributions: closed forms, brute force, and torchmetrics on the same features."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mnemoscope.errors import UsageError
from mnemoscope.measures.alignment import clip_score
from mnemoscope.measures.kernel_distance import distance_of_subsets, mmd
from mnemoscope.measures.memorization_informed_distance import nearest_cosine_distance, penalised_distance
from mnemoscope.measuring.distances import distances, radii
from mnemoscope.measuring.frechet import between, frechet_distance, moments, moments_of
from mnemoscope.measuring.neighbours import density_coverage, precision_recall, realism, shares

PAIR = ((60, 40, 5), (300, 200, 12))


def drawn(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift


def exactly(n: int, mean: np.ndarray, covariance: np.ndarray, seed: int = 0) -> np.ndarray:
    """A sample whose mean and covariance (ddof 1) are the given ones but for rounding."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return q * math.sqrt(n - 1) @ np.linalg.cholesky(covariance).T + mean


def covariance(d: int, seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(d, d))
    return a @ a.T + np.eye(d) / 10


class Through(torch.nn.Module):
    """A "network" whose images are their features already."""

    num_features = 1

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_frechet_of_gaussians_that_commute_is_the_textbook_one() -> None:
    """|m - n|^2 + sum (a - b)^2 over the deviations along common axes, here turned ones."""
    d, deviations = 6, np.array([[1.0, 2, 3, 0.5, 4, 1], [2.0, 2, 1, 1.5, 0.25, 3]])
    axes, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))
    means = np.arange(d) / 3, np.ones(d)
    samples = [
        exactly(50 + k, mean, axes * s**2 @ axes.T, k)
        for k, (mean, s) in enumerate(zip(means, deviations, strict=True))
    ]
    found = frechet_distance(*samples)
    assert found["of_means"] == pytest.approx(np.square(means[0] - means[1]).sum(), rel=1e-12)
    assert found["of_covariances"] == pytest.approx(np.square(deviations[0] - deviations[1]).sum(), rel=1e-10)
    assert found["distance"] == found["of_means"] + found["of_covariances"]


def test_frechet_of_any_covariances_is_that_of_the_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b, m, n = covariance(7, 0), covariance(7, 1), np.ones(7), np.arange(7.0)
    expected = np.square(m - n).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(exactly(20, m, a), exactly(33, n, b))["distance"] == pytest.approx(expected, rel=1e-10)
    assert sum(between(moments_of(m, a), moments_of(n, b))) == pytest.approx(expected, rel=1e-10)


def test_frechet_moments_are_those_of_numpy() -> None:
    x = drawn(30, 8).astype(np.float32)
    for features in (x, x[:5]):  # fewer vectors than dimensions, too
        found = moments(features)
        assert found.factor.T @ found.factor == pytest.approx(np.cov(features.astype(np.float64).T, ddof=1), rel=1e-9)


def test_frechet_of_singular_covariances_is_exact_and_said() -> None:
    """All vectors on one line each: the lines are at a right angle, so that the root's trace is 0."""
    line = np.array([[-1.0], [0], [1]])
    x, y = line * np.eye(9)[0], 2 * line * np.eye(9)[1]
    found = frechet_distance(x, y)
    assert found["distance"] == pytest.approx(1 + 4, rel=1e-14)
    assert "3 generated and 3 reference vectors do not span 9 dimensions" in found["notes"][1]
    assert frechet_distance(x, x)["distance"] == pytest.approx(0, abs=1e-14)
    assert len(frechet_distance(drawn(20, 4), drawn(20, 4))["notes"]) == 1


def test_frechet_falls_with_the_number_of_vectors() -> None:
    """Why it has no interval from parts of the sample."""
    x, y = (np.random.default_rng(k).normal(size=(4000, 16)) for k in (0, 1))
    few, many = (frechet_distance(x[:n], y[:n])["distance"] for n in (50, 4000))
    assert few > 10 * many > 0


@pytest.mark.parametrize(("n", "m", "d"), PAIR)
def test_frechet_equals_torchmetrics(n: int, m: int, d: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = drawn(n, d), drawn(m, d, 1, 0.3)
    theirs = FrechetInceptionDistance(feature=Through(d), input_img_size=(d,)).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(y), real=True)
    theirs.update(torch.from_numpy(x), real=False)
    assert frechet_distance(x, y)["distance"] == pytest.approx(float(theirs.compute()), rel=1e-9)


def test_frechet_refuses_what_has_none() -> None:
    x = drawn(9, 3)
    with pytest.raises(UsageError, match="3 dimensions and references 2"):
        frechet_distance(x, x[:, :2])
    with pytest.raises(UsageError, match="1 reference vectors"):
        frechet_distance(x, x[:1])
    with pytest.raises(UsageError, match="1 of 9 generated"):
        frechet_distance(np.where(np.arange(27).reshape(9, 3) == 4, np.nan, x), x)
    with pytest.raises(UsageError, match="not symmetric and positive"):
        moments_of(np.zeros(2), np.array([[1.0, 2], [2, 1]]))


def plain_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Pair by pair, as the definition has it."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    xx = [k(a, b) for a, b in itertools.permutations(x, 2)]
    yy = [k(a, b) for a, b in itertools.permutations(y, 2)]
    xy = [k(a, b) for a in x for b in y]
    return float(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy))


def test_kernel_distance_is_that_of_all_pairs() -> None:
    x, y = drawn(9, 4), drawn(9, 4, 1, 0.5)
    found = distance_of_subsets(x, y)
    assert found["mean"] == pytest.approx(plain_mmd(x, y), rel=1e-12)
    assert (found["sd"], found["subsets"], found["subset_size"]) == (0, 1, 9) and "whole" in found["notes"][0]
    assert mmd(x, y[:6])["value"] == pytest.approx(plain_mmd(x, y[:6]), rel=1e-12)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")
def test_kernel_distance_equals_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = drawn(40, 6), drawn(40, 6, 1, 0.3)
    theirs = KernelInceptionDistance(feature=Through(6), subsets=2, subset_size=40)
    theirs.update(torch.from_numpy(y), real=True)
    theirs.update(torch.from_numpy(x), real=False)
    assert distance_of_subsets(x, y)["mean"] == pytest.approx(float(theirs.compute()[0]), rel=1e-9)


def test_kernel_distance_draws_subsets_by_seed() -> None:
    x, y = drawn(60, 5), drawn(80, 5, 1)
    one, again, other = (distance_of_subsets(x, y, subsets=30, subset_size=20, seed=s) for s in (0, 0, 1))
    assert one == again and one["mean"] != other["mean"]
    assert one["sd"] > 0 and one["notes"] == [] and (one["subsets"], one["subset_size"]) == (30, 20)
    rng = np.random.default_rng(0)
    picks = [[rng.choice(len(side), 20, replace=False) for side in (x, y)] for _ in range(30)]
    values = [plain_mmd(x[i], y[j]) for i, j in picks[:3]]
    assert distance_of_subsets(x, y, subsets=3, subset_size=20)["mean"] == pytest.approx(np.mean(values), rel=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    """0 on average over equal distributions, and negative about as often as not."""
    rng = np.random.default_rng(3)
    found = np.array([mmd(rng.normal(size=(30, 3)), rng.normal(size=(30, 3)))["value"] for _ in range(300)])
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(300)
    assert 0.3 < (found < 0).mean() < 0.9


def test_mmd_interval_is_a_jackknife_over_prompts_and_references() -> None:
    x, y, prompts = drawn(12, 3), drawn(7, 3, 1, 0.4), [k // 3 if k < 9 else 5 for k in range(12)]
    found = mmd(x, y, prompts, level=0.95)
    named = np.array(prompts)
    variance = 0.0
    for left in (
        [plain_mmd(x[named != p], y) for p in (0, 1, 2, 5)],
        [plain_mmd(x, np.delete(y, k, axis=0)) for k in range(7)],
    ):
        variance += (len(left) - 1) / len(left) * np.square(np.array(left) - np.mean(left)).sum()
    half = 1.959963984540054 * math.sqrt(variance)
    assert found["value_interval"] == pytest.approx([found["value"] - half, found["value"] + half], rel=1e-9)
    assert mmd(x, y, ["same"] * 12)["value_interval"] is None


def test_mmd_interval_covers() -> None:
    """For normal vectors N(0, I) and N(s, I) in D = 2, E (x y / 2 + 1)^3 is known, and so is the squared MMD."""
    rng, s = np.random.default_rng(5), np.array([0.8, 0.0])

    def expected(m: np.ndarray, n: np.ndarray) -> float:
        """E (u + 1)^3 for u = x y / D, from moments of products of independent normal vectors with these means."""
        grid = np.polynomial.hermite_e.hermegauss(6)
        nodes = np.array(list(itertools.product(grid[0], repeat=2)))
        weights = np.prod(np.array(list(itertools.product(grid[1], repeat=2))), axis=1) / (2 * np.pi)
        return float(weights @ (((nodes + m) @ (nodes + n).T / 2 + 1) ** 3) @ weights)

    zero = np.zeros(2)
    truth = expected(zero, zero) + expected(s, s) - 2 * expected(zero, s)
    hits = 0
    for _ in range(60):
        low, high = mmd(rng.normal(size=(80, 2)) + s, rng.normal(size=(80, 2)))["value_interval"]
        hits += low <= truth <= high
    assert hits >= 50


def test_distances_are_exact_where_products_cancel() -> None:
    x = drawn(50, 8) + 1e4
    x[1] = x[0]
    x[2] = x[0] + 1e-7
    expected = np.sqrt(np.square(x[:, None] - x[None]).sum(axis=2))
    found = distances(x, x)
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    assert found[0, 1] == 0 and found[0, 2] > 0
    assert radii(x, 1)[:2].tolist() == [0, 0]
    with pytest.raises(UsageError, match="k = 50 nearest"):
        radii(x, 50)


def plain_balls(x: np.ndarray, k: int) -> list[float]:
    return [sorted(math.dist(a, b) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_and_density_coverage_are_those_of_all_balls(k: int) -> None:
    x, y = drawn(25, 3), drawn(30, 3, 1, 0.5)
    x[3] = y[4]
    ours, theirs = plain_balls(x, k), plain_balls(y, k)
    inside = np.array([[math.dist(a, b) <= r for b, r in zip(y, theirs, strict=True)] for a in x])
    found = precision_recall(x, y, k=k)
    assert found["precise"].tolist() == inside.any(axis=1).tolist()
    assert found["recalled"].tolist() == [any(math.dist(a, b) <= r for a, r in zip(x, ours, strict=True)) for b in y]
    found = density_coverage(x, y, k=k, strict=False)
    assert found["density"].tolist() == (inside.sum(axis=1) / k).tolist()
    assert found["covered"].tolist() == inside.any(axis=0).tolist()
    some = [r <= np.median(theirs) for r in theirs]
    expected = [
        max(r / math.dist(a, b) for b, r, s in zip(y, theirs, some, strict=True) if s) for a in np.delete(x, 3, 0)
    ]
    assert np.delete(realism(x, y, k=k), 3) == pytest.approx(expected, rel=1e-9)
    every = [max(r / math.dist(a, b) for b, r in zip(y, theirs, strict=True)) for a in np.delete(x, 3, 0)]
    assert np.delete(realism(x, y, k=k, prune=False), 3) == pytest.approx(every, rel=1e-9)
    assert realism(x, y, k=k, prune=False)[3] == np.inf


def test_the_rim_counts_or_not() -> None:
    """A generated copy of the nearest neighbour of a reference lies on the rim of that reference's ball."""
    y = np.array([[0.0, 0.3], [1.1, 0.7], [9.0, 9.0], [9.1, 9.2]])
    x = np.array([[1.1, 0.7], [50.0, 50.0]])
    inclusive, strict = (density_coverage(x, y, k=1, strict=s)["covered"].tolist() for s in (False, True))
    assert (inclusive, strict) == ([True, True, False, False], [False, True, False, False])
    twice = np.array([[0.0, 0], [0, 0], [5, 5], [9, 9]])  # a ball without a radius
    assert precision_recall(twice[:2], twice[:2], k=1)["precise"].all()
    assert not precision_recall(twice[:2], twice[:2], k=1, strict=True)["precise"].any()


def test_copies_are_perfectly_precise_and_a_far_set_is_not() -> None:
    y = drawn(40, 3)
    found = precision_recall(y, y)
    assert found["precise"].all() and found["recalled"].all()
    assert density_coverage(y, y)["covered"].all()
    far = precision_recall(y + 1e3, y)
    assert not far["precise"].any() and not far["recalled"].any()


def test_shares_have_intervals_over_prompts() -> None:
    x, y = drawn(40, 3), drawn(50, 3, 1)
    found, parts = precision_recall(x, y), density_coverage(x, y)
    said = shares(
        {"precision": found["precise"], "density": parts["density"]},
        {"recall": found["recalled"]},
        [k // 4 for k in range(40)],
    )
    assert said["precision"] == found["precise"].mean() and said["recall"] == found["recalled"].mean()
    assert said["density"] == pytest.approx(parts["density"].mean())
    assert all(
        said[f"{n}_interval"][0] <= said[n] <= said[f"{n}_interval"][1] for n in ("precision", "density", "recall")
    )


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_memorization_informed_distance_equals_torchmetrics(shift: float) -> None:
    """With the mean over references, which is theirs; below the threshold and above it."""
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    y = drawn(50, 6, 1)
    x = y[:40] + shift * drawn(40, 6) + 0.05
    theirs = MemorizationInformedFrechetInceptionDistance(feature=Through(6))
    theirs.update(torch.from_numpy(y), real=True)
    theirs.update(torch.from_numpy(x), real=False)
    found = penalised_distance(x, y, over="reference")
    assert (found["penalty"] < 0.1) == (found["penalty"] != 1)
    assert found["distance"] == pytest.approx(float(theirs.compute()), rel=1e-7)


def test_memorization_informed_distance_penalises_copies_and_not_missing_references() -> None:
    """The mean is over generated images: copies of a few references are copies all the same."""
    y = drawn(60, 6, 1)
    copied = y[:10] * np.linspace(1, 2, 10)[:, None]
    found = penalised_distance(copied, y)
    assert found["cosine_distance"] == pytest.approx(0, abs=1e-12) and found["distance"] == math.inf
    assert penalised_distance(copied, y, over="reference")["cosine_distance"] > 0.01
    fresh = penalised_distance(drawn(40, 6, 8), y, threshold=1e-9)
    assert fresh["penalty"] == 1 and fresh["distance"] == fresh["frechet"]
    assert nearest_cosine_distance(-y[:3], np.vstack([y, np.zeros((1, 6))])) == pytest.approx(0, abs=1e-12)
    with pytest.raises(UsageError, match="threshold 0"):
        penalised_distance(copied, y, threshold=0)


def test_torch_fidelity_agrees_where_it_can_be_imported() -> None:
    try:
        from torch_fidelity.metric_fid import fid_statistics_to_metric
        from torch_fidelity.metric_kid import polynomial_mmd
    except (ImportError, RuntimeError) as why:
        pytest.skip(f"torch-fidelity needs torchvision, which does not import here: {why}")
    x, y = drawn(60, 5), drawn(60, 5, 1)
    stats = [{"mu": s.mean(axis=0), "sigma": np.cov(s.T)} for s in (x, y)]
    (fid,) = fid_statistics_to_metric(*stats, verbose=False).values()
    assert frechet_distance(x, y)["distance"] == pytest.approx(fid, rel=1e-6)
    assert mmd(x, y)["value"] == pytest.approx(polynomial_mmd(x, y, 3, None, 1.0), rel=1e-6)


def test_clip_score_says_what_it_was_taken_from() -> None:
    cosines = np.array([0.3, -0.1, 0.2, np.nan])
    found = clip_score(cosines, ["a", "a", "b", "c"], model="ViT-B/16")
    about = {key: found[key] for key in ("model", "text", "scale", "clamp", "unknown")}
    assert about == {"model": "ViT-B/16", "text": "original", "scale": 1, "clamp": "none", "unknown": 1}
    assert found["mean"] == pytest.approx(0.4 / 3) and found["median"] == 0.2
    assert found["mean_interval"][0] <= found["mean"] <= found["mean_interval"][1]
    assert np.array_equal(found["values"], cosines, equal_nan=True)


@pytest.mark.parametrize(
    ("clamp", "mean", "first"), [("none", -10.0, -30.0), ("image", 10 / 3, 0.0), ("mean", 0.0, -30.0)]
)
def test_clip_score_clamps_where_it_is_told(clamp: str, mean: float, first: float) -> None:
    found = clip_score(np.array([-0.3, -0.1, 0.1]), model="m", text="used", scale=100, clamp=clamp)
    assert found["mean"] == pytest.approx(mean) and found["values"][0] == pytest.approx(first)
    assert clamp == "none" or found["mean_interval"][0] >= 0


def test_clip_score_without_numbers_has_none() -> None:
    found = clip_score(np.full(2, np.nan), model="m")
    assert found["mean"] is None and found["median_interval"] is None and found["unknown"] == 2
    with pytest.raises(UsageError, match="1 prompts were given for 2 images"):
        clip_score(np.zeros(2), ["a"], model="m")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: distance_of_subsets(x, x, subsets=0),
        lambda x: distance_of_subsets(x, x, subset_size=1),
        lambda x: mmd(x, x, ["a"]),
        lambda x: mmd(x, x, level=1.0),
        lambda x: precision_recall(x, x, k=9),
        lambda x: penalised_distance(0 * x, x),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[np.ndarray], object]) -> None:
    with pytest.raises(UsageError):
        wrong(drawn(9, 3))
