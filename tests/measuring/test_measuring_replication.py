"""Similarity to the nearest reference: the published statistics, intervals over prompts, the references' background."""

import json
import math

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.measuring import bootstrap
from mnemoscope.measuring.background import nearest_other, sampled, separation
from mnemoscope.measuring.bootstrap import MedianDeviation, Percentile, Share, draws, estimates, groups, mean, sd
from mnemoscope.measuring.replication import dcr_statistics, distribution, histogram, threshold_curve
from mnemoscope.stats import auc, wilson_interval
from places import FIXTURES

GOLDEN = json.loads((FIXTURES / "golden_dcr.json").read_text())
ELEVEN = {f"{side}_{key}" for side in ("sim", "bg") for key in ("mean", "std", "75pc", "90pc", "95pc")} | {
    "sim_gt_05pc"
}


def similarities(prompts=30, images=4, seed=0):
    """Images of a prompt have much in common."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.4, 0.2, (prompts, 1)) + rng.normal(0, 0.05, (prompts, images))
    return values.ravel().clip(-1, 1), [f"prompt {k // images}" for k in range(prompts * images)]


def flat(found):
    return np.hstack(list(found.values()))


def unit(rng, count, dimension=16):
    vectors = rng.normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_eleven_statistics_are_those_of_the_formulae(dtype):
    sides = (np.array(GOLDEN[key], dtype=dtype) for key in ("similarity", "similarity_wtrain"))
    found = dcr_statistics(*sides)
    assert found.keys() == ELEVEN
    assert found == pytest.approx(GOLDEN["statistics"], abs=1e-6)


def test_the_eleven_statistics_equal_a_plain_implementation():
    rng = np.random.default_rng(1)
    similarity, wtrain = rng.uniform(-0.2, 1, (40, 57)), rng.uniform(-0.2, 0.9, (40, 40))
    wtrain = (wtrain + wtrain.T) / 2
    np.fill_diagonal(wtrain, 1)
    best = [max(column) for column in similarity.T.tolist()]
    second = [sorted(row)[-2] for row in wtrain.tolist()]
    expected = {"sim_gt_05pc": sum(value > 0.5 for value in best) / 57}
    for name, values in (("sim", sorted(best)), ("bg", sorted(second))):
        centre = math.fsum(values) / len(values)
        expected[f"{name}_mean"] = centre
        expected[f"{name}_std"] = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / len(values))
        for q in (75, 90, 95):
            whole, part = divmod(q / 100 * (len(values) - 1), 1)
            low, high = values[int(whole)], values[min(int(whole) + 1, len(values) - 1)]
            expected[f"{name}_{q}pc"] = low * (1 - part) + high * part
    assert dcr_statistics(similarity, wtrain) == pytest.approx(expected, abs=1e-12)


def test_statistics_of_nothing_are_refused():
    with pytest.raises(UsageError, match="two references"):
        dcr_statistics(np.zeros((1, 3)), np.ones((1, 1)))


@pytest.mark.parametrize(("key", "counts"), [("similarity", "sim_counts"), ("similarity_wtrain", "bg_counts")])
def test_histogram_counts_are_those_of_the_formulae(key, counts):
    whole = np.array(GOLDEN[key])
    values = whole.max(axis=0) if key == "similarity" else np.sort(whole, axis=1)[:, -2]
    found = histogram(values)
    assert (len(found["edges"]), len(found["counts"])) == (200, 199)
    assert {str(k): count for k, count in enumerate(found["counts"]) if count} == GOLDEN[counts]
    assert sum(found["density"]) / 199 == pytest.approx(1)


def test_histogram_counts_what_it_leaves_out():
    found = histogram(np.array([-0.1, 0.0, 0.25, 0.75, 1.0, 1.0000002, 1.5]), edges=3)
    assert found == {"edges": [0, 0.5, 1], "counts": [2, 2], "density": [1, 1], "below": 1, "above": 2}
    assert histogram(np.array([-0.5]))["density"] == [0] * 199
    with pytest.raises(UsageError, match="at least 2"):
        histogram(np.zeros(3), edges=1)


def test_distribution_is_numpys():
    values, prompts = similarities()
    found = distribution(values, prompts)
    expected = {"similarity_mean": values.mean(), "similarity_sd": values.std()}
    expected |= {f"similarity_p{q}": np.percentile(values, q) for q in (75, 90, 95)}
    assert {k: v for k, v in found.items() if not k.endswith("_interval")} == pytest.approx(expected, abs=1e-12)
    for key in expected:
        low, high = found[f"{key}_interval"]
        assert low < found[key] < high


def test_a_share_counts_what_is_strictly_above():
    curve = threshold_curve(np.array([0.2, 0.5, 0.5, 0.8]), thresholds=(0.1, 0.5, 0.8))
    assert [(point["threshold"], point["share"]) for point in curve] == [(0.1, 1), (0.5, 0.25), (0.8, 0)]
    assert curve[0]["interval"] == pytest.approx(wilson_interval(4, 4))
    assert curve[2]["interval"] == pytest.approx(wilson_interval(0, 4))


def test_every_resample_is_that_of_whole_prompts():
    """The weighted statistics against numpy's own on the images that each resample repeats."""
    values, prompts = similarities(12, 3)
    order = np.argsort(values)
    ascending, codes = values[order], groups(prompts, values)[order]
    (weights,) = draws(codes, resamples=50, seed=3)
    assert all((weights[:, codes == code] == weights[:, codes == code][:, :1]).all() for code in range(12))
    assert (weights.sum(axis=1) == 36).all() and len(np.unique(weights, axis=0)) == 50
    repeated = [np.repeat(ascending, row.astype(int)) for row in weights]
    for statistic, plain in {
        mean: np.mean,
        sd: np.std,
        Share(0.4): lambda v: np.mean(v > 0.4),
        Percentile(90): lambda v: np.percentile(v, 90),
        Percentile(50, lower=True): lambda v: np.percentile(v, 50, method="lower"),
        MedianDeviation(): lambda v: np.median(np.abs(v - np.median(v))),
    }.items():
        assert statistic(ascending, weights) == pytest.approx([plain(own) for own in repeated], abs=1e-12)


def test_prompts_that_repeat_themselves_make_a_number_less_sure():
    """k equal images of each prompt say no more than one of each, and sqrt(k) times less than they seem to."""
    once = np.random.default_rng(0).normal(size=200)
    values, prompts = np.repeat(once, 9), np.repeat(np.arange(200), 9)
    low, high = estimates({"m": mean}, values, prompts)["m_interval"]
    blind = estimates({"m": mean}, values)["m_interval"]
    assert high - low == pytest.approx(2 * 1.96 * once.std() / math.sqrt(200), rel=0.1)
    assert (high - low) / (blind[1] - blind[0]) == pytest.approx(3, rel=0.1)


def test_intervals_cover_the_truth_only_over_prompts():
    found = {True: 0, False: 0}
    for seed in range(150):
        values, prompts = similarities(40, 4, seed)
        for over, drawn in ((True, prompts), (False, None)):
            low, high = estimates({"m": mean}, values, drawn, resamples=200)["m_interval"]
            found[over] += low <= 0.4 <= high
    assert found[True] >= 133  # 89 %; the percentile bootstrap of 40 is a little narrow
    assert found[False] <= 115


def test_intervals_depend_neither_on_the_order_nor_on_blocks(monkeypatch):
    values, prompts = similarities()
    expected = distribution(values, prompts, seed=5)
    mixed = np.random.default_rng(0).permutation(len(values))
    assert flat(distribution(values[mixed], [prompts[k] for k in mixed], seed=5)) == pytest.approx(flat(expected))
    renamed = [-int(prompts[k].split()[1]) for k in mixed]
    assert flat(distribution(values[mixed], renamed, seed=5)) == pytest.approx(flat(expected))
    assert flat(estimates({"m": mean}, values[mixed])) == pytest.approx(flat(estimates({"m": mean}, values)))
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * len(values))
    assert flat(distribution(values, prompts, seed=5)) == pytest.approx(flat(expected))
    assert distribution(values, prompts, seed=6) != expected


def test_one_prompt_has_no_interval_but_for_a_share():
    found = estimates({"mean": mean, "share": Share(0.5)}, np.array([0.9, 0.8]), ["a", "a"])
    assert found["mean_interval"] is None
    assert found["share_interval"] == pytest.approx(wilson_interval(1, 1))


def test_a_share_that_no_draw_changes_has_wilsons_interval():
    """Half of the images of each prompt: no resample differs, and three prompts still leave much open."""
    found = estimates({"share": Share(0.5)}, np.array([0.9, 0.1] * 3), ["a", "a", "b", "b", "c", "c"])
    assert found["share"] == 0.5
    assert found["share_interval"] == pytest.approx(wilson_interval(2, 3))


@pytest.mark.parametrize(
    ("values", "prompts", "wanted", "said"),
    [
        ([], None, {}, "no value"),
        ([0.1, np.nan], None, {}, "1 of 2 values are NaN"),
        ([0.1, 0.2], ["a"], {}, "1 prompts were given for 2 values"),
        ([0.1, 0.2], None, {"resamples": 0}, "0 resamples"),
        ([0.1, 0.2], None, {"level": 1.0}, "level 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(values, prompts, wanted, said):
    with pytest.raises(UsageError, match=said):
        estimates({"m": mean}, np.array(values), prompts, **wanted)


def test_background_leaves_out_the_reference_itself_and_nothing_else():
    rng = np.random.default_rng(0)
    vectors = unit(rng, 30)
    vectors[20] = vectors[4]  # the same image twice: another training image
    whole = vectors @ vectors.T
    np.fill_diagonal(whole, -np.inf)
    for size in (30, 7):
        blocks = [vectors[k : k + size] for k in range(0, 30, size)]
        scores, positions = nearest_other(blocks, vectors, np.arange(30))
        assert scores == pytest.approx(whole.max(axis=1), abs=1e-6)
        assert (positions == whole.argmax(axis=1)).all() and positions[4] == 20 and positions[20] == 4
    some = sampled(30, 8, seed=1)
    assert len(set(some.tolist())) == 8 and (np.diff(some) > 0).all() and (sampled(8, 8) == np.arange(8)).all()
    scores, _ = nearest_other([vectors], vectors[some], some)
    assert scores == pytest.approx(whole[some].max(axis=1), abs=1e-6)


def test_background_of_one_reference_is_refused():
    vectors = unit(np.random.default_rng(0), 1)
    with pytest.raises(UsageError, match="two references"):
        nearest_other([vectors], vectors, np.arange(1))


def test_separation_is_the_auc_and_its_interval_draws_both_sides():
    values, prompts = similarities(25, 3)
    background = np.random.default_rng(7).normal(0.3, 0.2, 60).round(2)
    found = separation(values.round(2), background, prompts, resamples=100, seed=4)
    assert found["auroc"] == auc(values.round(2), background)
    codes = groups(prompts, values.round(2))
    (mine,), (theirs,) = draws(codes, resamples=100, seed=4), draws(np.arange(60), resamples=100, seed=5)
    ranked = np.sort(background)
    drawn = [
        auc(np.repeat(values.round(2), a), np.repeat(ranked, b))
        for a, b in zip(mine.astype(int), theirs.astype(int), strict=True)
    ]
    assert found["auroc_interval"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_separation_without_a_draw_that_differs_has_wilsons_interval():
    found = separation(np.array([0.8, 0.9, 0.85, 0.9]), np.array([0.1, 0.2, 0.3]), ["a", "a", "b", "b"])
    assert found == {"auroc": 1, "auroc_interval": pytest.approx(wilson_interval(2, 2))}
