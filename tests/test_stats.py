import json
import time
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from mnemoscope.errors import UsageError
from mnemoscope.stats import (
    auc,
    balanced_accuracy,
    bootstrap,
    bootstrap_interval,
    calibration,
    mean_interval,
    middle,
    resampler,
    roc,
    threshold_at_fpr,
    tpr_at_fpr,
    wilson_interval,
)

NOTHING_MEASURED = {
    "auc": None,
    "auc_interval": None,
    "tpr_at_1_fpr": None,
    "tpr_at_1_fpr_interval": None,
    "tpr_at_3_fpr": None,
    "tpr_at_3_fpr_interval": None,
    "tpr_at_5_fpr": None,
    "tpr_at_5_fpr_interval": None,
    "balanced_accuracy": None,
    "threshold": None,
    "threshold_fpr": None,
}


def tied_scores(seed, positives=150, negatives=230):
    rng = np.random.default_rng(seed)
    return rng.normal(0.8, 1, positives).round(1), rng.normal(0, 1, negatives).round(1)


def gaussians(distance, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(distance, 1, n), rng.normal(0, 1, n)


def labelled(memorized, ordinary):
    return np.repeat([1, 0], [memorized.size, ordinary.size]), np.append(memorized, ordinary)


def groups(min_negatives=1):
    few_values = st.integers(-4, 4).map(lambda value: value / 4)
    arrays = [st.lists(few_values, min_size=size, max_size=30) for size in (1, min_negatives)]
    return st.tuples(*arrays).map(lambda pair: tuple(np.array(side) for side in pair))


def brute_force_tpr(memorized, ordinary, passes):
    thresholds = [np.inf, *memorized, *ordinary]
    return max(np.mean(memorized >= t) for t in thresholds if passes(np.count_nonzero(ordinary >= t)))


# against scikit-learn


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_sklearns(seed):
    memorized, ordinary = tied_scores(seed)
    assert auc(memorized, ordinary) == pytest.approx(roc_auc_score(*labelled(memorized, ordinary)), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_roc_is_sklearns(seed):
    memorized, ordinary = tied_scores(seed)
    expected = roc_curve(*labelled(memorized, ordinary), drop_intermediate=False)
    for ours, theirs in zip(roc(memorized, ordinary), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_balanced_accuracy_is_sklearns_at_the_best_threshold(seed):
    memorized, ordinary = tied_scores(seed)
    labels, scores = labelled(memorized, ordinary)
    best = max(balanced_accuracy_score(labels, scores >= t) for t in [*np.unique(scores), np.inf])
    assert balanced_accuracy(memorized, ordinary) == pytest.approx(best, abs=1e-12)


# against the definitions


@given(groups())
@settings(deadline=None, max_examples=60)
def test_auc_counts_pairs(pair):
    memorized, ordinary = pair
    difference = memorized[:, None] - ordinary
    expected = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert auc(memorized, ordinary) == pytest.approx(expected, abs=1e-12)
    assert auc(ordinary, memorized) == pytest.approx(1 - expected, abs=1e-12)


@given(groups(min_negatives=10), st.sampled_from([0.1, 0.2, 0.29, 0.5]))
@settings(deadline=None, max_examples=60)
def test_tpr_is_the_best_over_all_thresholds(pair, fpr):
    percent, n = round(100 * fpr), pair[1].size
    assert tpr_at_fpr(*pair, fpr) == brute_force_tpr(*pair, lambda flagged: 100 * flagged <= percent * n)
    assert tpr_at_fpr(*pair, fpr, strict=True) == brute_force_tpr(*pair, lambda flagged: 100 * flagged < percent * n)


@given(groups(min_negatives=10), st.sampled_from([0.1, 0.2, 0.29, 0.5]), st.sampled_from([np.float32, np.float64]))
@settings(deadline=None, max_examples=60)
def test_threshold_is_the_smallest_that_keeps_the_share(pair, fpr, dtype):
    memorized, ordinary = (side.astype(dtype) for side in pair)
    threshold = threshold_at_fpr(ordinary, fpr)
    lower = np.nextafter(dtype(threshold), dtype(-np.inf))
    percent = round(100 * fpr)
    assert 100 * np.count_nonzero(ordinary >= threshold) <= percent * ordinary.size
    assert 100 * np.count_nonzero(ordinary >= lower) > percent * ordinary.size
    assert np.mean(memorized >= threshold) == tpr_at_fpr(memorized, ordinary, fpr)


@given(groups())
@settings(deadline=None, max_examples=30)
def test_scores_only_matter_by_rank(pair):
    moved = tuple(3 * side + 7 for side in pair)
    assert auc(*pair) == auc(*moved)
    assert balanced_accuracy(*pair) == balanced_accuracy(*moved)


# closed forms


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 2.0])
def test_two_gaussians(distance):
    scores, normal = gaussians(distance, 40_000), NormalDist()
    assert auc(*scores) == pytest.approx(normal.cdf(distance / 2**0.5), abs=0.008)
    assert balanced_accuracy(*scores) == pytest.approx(normal.cdf(distance / 2), abs=0.008)
    assert tpr_at_fpr(*scores) == pytest.approx(normal.cdf(distance - normal.inv_cdf(0.99)), abs=0.025)


def test_wilson_interval_in_its_simplest_cases():
    z2 = NormalDist().inv_cdf(0.975) ** 2
    assert wilson_interval(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + z2), 1))
    low, high = wilson_interval(50, 100)
    assert (low, high) == pytest.approx((0.403832, 0.596168), abs=1e-6)
    assert wilson_interval(50, 100, level=0.5)[0] > low


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=60)
def test_wilson_interval_solves_its_quadratic(trial):
    successes, n = trial
    share, z2 = successes / n, NormalDist().inv_cdf(0.975) ** 2
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        assert n * (share - bound) ** 2 == pytest.approx(z2 * bound * (1 - bound), abs=1e-9)


# strictness and the number of negatives


def test_strict_allows_four_of_500_and_the_plain_reading_five():
    ordinary = np.arange(500.0)
    memorized = np.array([493.5, 494.5, 495.5, 600.0])
    assert tpr_at_fpr(memorized, ordinary) == 0.75  # five ordinary scores lie above 494
    assert tpr_at_fpr(memorized, ordinary, strict=True) == 0.5
    assert threshold_at_fpr(ordinary) == np.nextafter(494.0, np.inf)


@pytest.mark.parametrize("percent", [7, 14, 28, 29, 57, 58])
def test_a_share_that_binary_fractions_miss_is_still_met(percent):
    ordinary = np.arange(100.0)
    assert threshold_at_fpr(ordinary, percent / 100) == np.nextafter(99.0 - percent, np.inf)
    assert tpr_at_fpr(ordinary, ordinary, percent / 100) == percent / 100
    assert tpr_at_fpr(ordinary, ordinary, percent / 100, strict=True) == (percent - 1) / 100


@pytest.mark.parametrize(
    "fpr, given, sentence",
    [
        (0.01, 99, "at 1% FPR needs at least 100 negatives; 99 were given."),
        (0.03, 33, "at 3% FPR needs at least 34 negatives; 33 were given."),
        (0.05, 19, "at 5% FPR needs at least 20 negatives; 19 were given."),
        (0.001, 999, "at 0.1% FPR needs at least 1000 negatives; 999 were given."),
    ],
)
def test_too_few_negatives_are_refused_and_one_more_is_enough(fpr, given, sentence):
    memorized, ordinary = np.ones(3), np.arange(float(given + 1))
    with pytest.raises(UsageError) as refused:
        tpr_at_fpr(memorized, ordinary[1:], fpr)
    assert str(refused.value) == f"TPR {sentence}"
    with pytest.raises(UsageError) as refused:
        threshold_at_fpr(ordinary[1:], fpr)
    assert str(refused.value) == f"A threshold {sentence}"
    tpr_at_fpr(memorized, ordinary, fpr)
    threshold_at_fpr(ordinary, fpr)


# intervals


def test_wilson_interval_covers_the_truth():
    rng, truth = np.random.default_rng(1), 0.1
    intervals = [wilson_interval(int(rng.binomial(40, truth)), 40) for _ in range(400)]
    assert 0.9 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.99


def test_bootstrap_auc_interval_covers_the_truth():
    truth = NormalDist().cdf(1 / 2**0.5)
    intervals = [bootstrap_interval(auc, *gaussians(1, 40, seed), resamples=150, seed=seed) for seed in range(60)]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.85
    narrow = [bootstrap_interval(auc, *gaussians(1, 40, seed), resamples=150, level=0.5) for seed in range(60)]
    assert 0.3 <= np.mean([low <= truth <= high for low, high in narrow]) <= 0.7


def test_mean_interval_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(0).normal(3, 2, 400)
    error = values.std() / 20
    assert mean_interval(values) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03
    )
    low, high = mean_interval(values, level=0.5)
    assert high - low == pytest.approx(2 * 0.6745 * error, rel=0.15)


def test_float32_means_are_summed_in_float64():
    assert mean_interval(np.full(3_000, 0.1, np.float32), resamples=3) == pytest.approx((0.1, 0.1), abs=2e-9)


def test_groups_are_redrawn_apart_and_at_their_own_size():
    seen = []
    memorized, ordinary = np.arange(5.0), 100 + np.arange(9.0)
    bootstrap_interval(lambda *drawn: float(len(seen.append(drawn) or seen)), memorized, ordinary, resamples=20)
    assert all(np.isin(m, memorized).all() and np.isin(o, ordinary).all() for m, o in seen)
    assert {(m.size, o.size) for m, o in seen} == {(5, 9)}
    assert any(np.unique(m).size < 5 for m, _ in seen) and any(np.unique(o).size < 9 for _, o in seen)


def test_the_middle_of_resamples_is_interpolated_or_reaches_outward():
    drawn = np.arange(101.0)[::-1]
    assert middle(drawn, 0.9) == pytest.approx((5, 95)) and middle(drawn, 0.85) == pytest.approx((7.5, 92.5))
    assert middle(drawn, 0.85, outward=True) == (7, 93)
    assert middle([-np.inf, 1.0, 2.0, np.inf], outward=True) == (-np.inf, np.inf)


def test_the_core_draws_with_the_generator_of_its_seed():
    rng = resampler(40, 7)
    expected = middle([rng.normal() for _ in range(40)], 0.8)
    assert bootstrap(lambda rng: rng.normal(), resamples=40, level=0.8, seed=7) == expected
    assert resampler(1, [7, 1]).integers(1 << 30) == np.random.default_rng([7, 1]).integers(1 << 30)
    with pytest.raises(UsageError, match="^0 resamples were asked for; ask for at least 1.$"):
        resampler(0, 7)


def test_a_seed_fixes_the_interval():
    scores = gaussians(1, 50)
    assert bootstrap_interval(auc, *scores, seed=3) == bootstrap_interval(auc, *scores, seed=3)
    assert bootstrap_interval(auc, *scores, seed=3) != bootstrap_interval(auc, *scores, seed=4)


def test_a_thousand_resamples_of_a_thousand_prompts_take_under_two_seconds():
    scores, started = gaussians(1, 500), time.process_time()
    bootstrap_interval(auc, *scores, resamples=1000)
    assert time.process_time() - started < 2


# the summary


def test_calibration_repeats_what_the_functions_say():
    memorized, ordinary = gaussians(1.5, 300)
    summary = calibration(memorized, ordinary, fpr=0.03, seed=2)
    assert list(summary) == [*NOTHING_MEASURED, "negatives", "positives", "notes"]
    assert summary["auc"] == auc(memorized, ordinary)
    assert summary["auc_interval"] == list(bootstrap_interval(auc, memorized, ordinary, seed=2))
    for percent in (1, 3, 5):
        rate = partial(tpr_at_fpr, fpr=percent / 100)
        assert summary[f"tpr_at_{percent}_fpr"] == rate(memorized, ordinary)
        interval = bootstrap_interval(rate, memorized, ordinary, seed=2)
        assert summary[f"tpr_at_{percent}_fpr_interval"] == list(interval)
    assert summary["balanced_accuracy"] == balanced_accuracy(memorized, ordinary)
    assert (summary["threshold"], summary["threshold_fpr"]) == (threshold_at_fpr(ordinary, 0.03), 0.03)
    assert (summary["negatives"], summary["positives"], summary["notes"]) == (300, 300, [])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_float32_threshold_survives_json():
    memorized, ordinary = (side.astype(np.float32) for side in gaussians(1.5, 200))
    threshold = json.loads(json.dumps(calibration(memorized, ordinary)))["threshold"]
    assert np.count_nonzero(ordinary >= threshold) == 2
    assert np.count_nonzero(ordinary >= np.float32(threshold)) == 2


def test_calibration_leaves_out_what_40_negatives_cannot_support():
    memorized, ordinary = gaussians(1, 40)
    summary = calibration(memorized, ordinary)
    assert summary["notes"] == [
        "TPR at 1% FPR needs at least 100 negatives; 40 were given.",
        "A threshold at 1% FPR needs at least 100 negatives; 40 were given.",
    ]
    missing = {name for name, value in summary.items() if value is None}
    assert missing == {"tpr_at_1_fpr", "tpr_at_1_fpr_interval", "threshold", "threshold_fpr"}


def test_perfect_separation_gets_wilsons_intervals():
    summary = calibration(np.arange(30.0) + 1000, np.arange(100.0))
    assert (summary["auc"], summary["auc_interval"]) == (1, list(wilson_interval(30, 30)))
    assert (summary["tpr_at_1_fpr"], summary["tpr_at_1_fpr_interval"]) == (1, list(wilson_interval(30, 30)))
    (note,) = summary["notes"]
    assert note.startswith("auc is exactly 1 (n = 30), tpr_at_1_fpr is exactly 1 (n = 30), tpr_at_3_fpr")
    assert note.endswith("which leaves the bootstrap nothing to vary: Wilson's interval stands in.")


def test_wilsons_n_is_the_smaller_group_for_auc_and_the_positives_for_tpr():
    summary = calibration(np.arange(200.0) - 1000, np.arange(100.0))
    assert (summary["auc"], summary["auc_interval"]) == (0, list(wilson_interval(0, 100)))
    assert (summary["tpr_at_5_fpr"], summary["tpr_at_5_fpr_interval"]) == (0, list(wilson_interval(0, 200)))


def test_calibration_without_negatives_says_that_scores_only_rank():
    assert calibration(np.arange(30.0), np.array([])) == NOTHING_MEASURED | {
        "negatives": 0,
        "positives": 30,
        "notes": ["No negatives were given: scores only rank, and no threshold was set."],
    }


def test_calibration_without_positives_sets_the_threshold():
    assert calibration(np.array([]), np.arange(100.0)) == NOTHING_MEASURED | {
        "threshold": np.nextafter(98.0, np.inf),
        "threshold_fpr": 0.01,
        "negatives": 100,
        "positives": 0,
        "notes": ["No positives were given: AUC, TPR and balanced accuracy were not measured."],
    }


# refusals

FINE, BROKEN, NONE = np.arange(4.0), np.array([1.0, np.nan, np.inf, -np.inf]), np.array([])


@pytest.mark.parametrize("statistic", [auc, roc, tpr_at_fpr, balanced_accuracy, partial(bootstrap_interval, auc)])
@pytest.mark.parametrize(
    "memorized, ordinary, sentence",
    [
        (BROKEN, FINE, "3 of 4 memorized scores are NaN or infinite; give finite scores only."),
        (FINE, BROKEN[:2], "1 of 2 ordinary scores are NaN or infinite; give finite scores only."),
        (NONE, FINE, "No memorized scores were given; give at least one."),
        (FINE, NONE, "No ordinary scores were given; give at least one."),
    ],
)
def test_unusable_scores_are_refused(statistic, memorized, ordinary, sentence):
    with pytest.raises(UsageError) as refused:
        statistic(memorized, ordinary)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: calibration(BROKEN, NONE), "3 of 4 memorized scores are NaN or infinite; give finite scores only."),
        (lambda: calibration(FINE, NONE, fpr=1.0), "fpr 1 was given; give a number between 0 and 1, both excluded."),
        (lambda: threshold_at_fpr(BROKEN), "3 of 4 ordinary scores are NaN or infinite; give finite scores only."),
        (lambda: threshold_at_fpr(FINE, 0.0), "fpr 0 was given; give a number between 0 and 1, both excluded."),
        (lambda: tpr_at_fpr(FINE, FINE, -0.1), "fpr -0.1 was given; give a number between 0 and 1, both excluded."),
        (lambda: mean_interval(BROKEN), "3 of 4 averaged scores are NaN or infinite; give finite scores only."),
        (lambda: mean_interval(FINE, level=1.5), "level 1.5 was given; give a number between 0 and 1, both excluded."),
        (lambda: mean_interval(FINE, resamples=0), "0 resamples were asked for; ask for at least 1."),
        (lambda: wilson_interval(1, 2, 0.0), "level 0 was given; give a number between 0 and 1, both excluded."),
        (
            lambda: wilson_interval(3, 2),
            "3 successes in 2 trials were given; give 0 <= successes <= n with n at least 1.",
        ),
        (
            lambda: wilson_interval(0, 0),
            "0 successes in 0 trials were given; give 0 <= successes <= n with n at least 1.",
        ),
    ],
)
def test_bad_input_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call()
    assert str(refused.value) == sentence
