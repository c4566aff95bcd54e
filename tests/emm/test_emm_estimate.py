"""EMM from ratios: closed forms, digitised curves of the paper, planted truth, intervals that cover."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.emm.sweeps.estimate import RatioPoint, crossings, emm
from mnemoscope.errors import UsageError
from mnemoscope.stats.isotonic import falling

CURVES = {  # percent at each size, read off the figures of arXiv:2310.02664
    "32": ({500: 99.2, 1000: 92.0, 2000: 60.9, 3000: 34.6, 4000: 17.1, 5000: 8.9}, 1050),
    "16": ({1000: 100, 2000: 99.7, 4000: 94.6, 8000: 60.2, 16000: 10.9}, 4400),
    "8": ({1000: 100, 2000: 99.8, 4000: 97.1, 8000: 89.6, 16000: 63.8}, 7700),
}
values = st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=8)


def points(curve: dict[int, float], seeds: int = 1, samples: int = 10_000) -> list[RatioPoint]:
    return [RatioPoint(n, share / 100, samples, seed) for n, share in curve.items() for seed in range(seeds)]


@pytest.mark.parametrize("name", CURVES)
def test_emm_of_the_papers_curves(name: str) -> None:
    curve, expected = CURVES[name]
    found = emm(points(curve), resamples=50)
    assert found.value == pytest.approx(expected, rel=0.006) and not found.flag
    low, high = found.interval
    assert low is not None and high is not None and low <= found.value <= high
    assert found.bracket == next((a, b) for a, b in pairwise(curve) if curve[a] >= 90 > curve[b])


def test_interpolation_is_linear_in_log_size() -> None:
    assert emm(points({100: 100, 10_000: 80}), resamples=1).value == pytest.approx(1000)
    assert emm(points({100: 90, 400: 0}), resamples=1).value == pytest.approx(100)
    assert emm(points({100: 95, 400: 80}), eps=0.2 - 1e-6, resamples=1).value == pytest.approx(400, rel=1e-4)


def test_outside_of_the_sizes_there_is_a_flag_and_no_number() -> None:
    under, over = (emm(points(dict.fromkeys((50, 100), share)), resamples=20) for share in (5, 99.9))
    assert (under.value, under.flag, under.bracket, under.interval) == (None, "below grid", (None, 50), (None, None))
    assert (over.value, over.flag, over.bracket, over.interval) == (None, "above grid", (100, None), (None, None))


def test_an_end_of_an_interval_outside_of_the_sizes_is_open() -> None:
    found = emm(points({50: 91, 100: 20}, samples=100), resamples=200)
    assert found.value is not None and found.interval[0] is None and found.interval[1] is not None


def test_noise_that_rises_is_pooled_by_samples() -> None:
    given_points = [
        RatioPoint(10, 1.0, 100),
        RatioPoint(20, 0.8, 300),
        RatioPoint(40, 0.96, 100),
        RatioPoint(80, 0.0, 100),
    ]
    found = emm(given_points, resamples=1)
    assert [row["fit"] for row in found.fitted] == pytest.approx([1.0, 0.84, 0.84, 0.0])
    assert found.value == pytest.approx(10 * 2 ** (0.1 / 0.16)) and found.bracket == (10, 20)


def test_the_curve_of_eps_rises() -> None:
    curve = [row["emm"] for row in emm(points(CURVES["32"][0]), resamples=1).curve]
    known = [value for value in curve if value is not None]
    assert len(known) > 10 and known == sorted(known)
    at = {row["eps"]: row["emm"] for row in emm(points(CURVES["32"][0]), resamples=1).curve}
    assert at[0.1] == emm(points(CURVES["32"][0]), resamples=1).value


@settings(deadline=None, max_examples=60)
@given(values)
def test_the_fit_falls_keeps_the_mean_and_is_the_nearest(given_values: list[tuple[float, float]]) -> None:
    y, w = (np.array(column) for column in zip(*given_values, strict=True))
    fit = falling(y.tolist(), w.tolist())
    assert np.all(np.diff(fit) <= 1e-12) and fit @ w == pytest.approx(y @ w)
    every = range(len(y))
    means = {(a, b): float(np.average(y[a : b + 1], weights=w[a : b + 1])) for a in every for b in every[a:]}
    minimax = [min(max(means[a, b] for b in every[k:]) for a in every[: k + 1]) for k in every]
    assert fit == pytest.approx(minimax)


def share(n: int, shift: float) -> float:
    """A logistic curve in log size that crosses 0.9 at 90 images, times the exponential of the shift."""
    return 1 / (1 + math.exp(4 * (math.log(n / 90) - shift)) / 9)


def test_intervals_cover_the_truth() -> None:
    """Curves that lie elsewhere for each seed: nine in ten 95 % intervals over six seeds hold the crossing."""
    rng, sizes, hits = np.random.default_rng(0), (25, 50, 100, 200, 400), 0
    truth = emm([RatioPoint(n, share(n, 0), 10**6) for n in sizes], resamples=1).value
    assert truth is not None
    for _ in range(60):
        shifts = rng.normal(0, 0.15, 6)
        drawn = {(n, s): rng.binomial(500, share(n, shift)) for n in sizes for s, shift in enumerate(shifts)}
        low, high = emm([RatioPoint(n, k / 500, 500, s) for (n, s), k in drawn.items()], resamples=150).interval
        hits += (low or 0) <= truth <= (high or math.inf)
    assert 50 <= hits < 60


def test_seeds_are_drawn_together_at_all_sizes() -> None:
    """A seed that memorizes more does so at all sizes: both sets of points get the same seeds in each resample."""
    one = [
        RatioPoint(n, r, 100_000, s)
        for s, shift in enumerate((0.0, 0.08, 0.16))
        for n, r in ((10, 0.99), (20, 0.7 + shift))
    ]
    other = [RatioPoint(p.n * 2, p.ratio, p.samples, p.seed) for p in one]
    ratios = crossings(other, 0.1, seeds=[0, 1, 2], resamples=200) / crossings(one, 0.1, seeds=[0, 1, 2], resamples=200)
    assert np.all(np.isfinite(ratios)) and ratios == pytest.approx(np.full(200, 2.0), rel=0.02)
    assert np.std(crossings(one, 0.1, resamples=200)) > 0.1


def test_the_order_of_points_changes_nothing() -> None:
    measured = [RatioPoint(n, r, 500, s) for n, r in ((25, 1.0), (50, 0.95), (100, 0.6)) for s in range(3)]
    assert emm(measured, resamples=50) == emm(measured[::-1], resamples=50)


def test_bad_input_is_told() -> None:
    with pytest.raises(UsageError, match="no point"):
        emm([])
    with pytest.raises(UsageError, match="between 0 and 1"):
        emm([RatioPoint(1, 1.0, 1)], eps=1.0)
    with pytest.raises(UsageError, match="ratio from 0 to 1"):
        RatioPoint(10, 1.2, 100)
    with pytest.raises(UsageError, match="at least 1"):
        emm([RatioPoint(1, 1.0, 1)], resamples=0)
