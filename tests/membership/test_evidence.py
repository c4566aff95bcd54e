"""The test of a set: a leak-free fit, a p that keeps its level, and numbers of pictures that are enough."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import planted_set
from mnemoscope.membership import evidence
from mnemoscope.membership.evidence import adjusted, compared, normal_scores, p_of_set
from mnemoscope.membership.power import detectable, found_by, needed
from mnemoscope.membership.verdict import Table, concluded, false_positive_rates, verdict
from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.signals import denoising_loss, low_frequency_loss, proximal_initialization
from mnemoscope.stats import auc, wilson_interval


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power curve of few tests: it is what takes the time."""
    monkeypatch.setattr("mnemoscope.membership.verdict.DRAWS", 3)


def drawn(count: int, features: int = 6, shift: float = 0.0, members: int = 0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, features)) + rng.standard_normal((count, 1))
    values[:members, 0] += shift
    return values


def first(members: int, count: int) -> np.ndarray:
    return np.arange(count) < members


def test_normal_scores_keep_the_order_and_know_no_unit() -> None:
    values = np.array([[3.0, 1.0, 7.0], [1.0, 1.0, 7.0], [2.0, 5.0, 7.0], [9.0, 5.0, 7.0]])
    found = normal_scores(values)
    assert found[:, 0].argsort().tolist() == values[:, 0].argsort().tolist()
    assert found[:, 0].sum() == pytest.approx(0) and found[0, 1] == found[1, 1] == -found[2, 1] < 0
    assert found[:, 2].tolist() == pytest.approx([0] * 4)
    assert np.allclose(normal_scores(np.exp(3 * values)), found)


def test_what_plain_looks_explain_is_taken_away_and_the_rest_is_left() -> None:
    rng = np.random.default_rng(1)
    plain, own = rng.standard_normal((400, 2)), rng.standard_normal(400)
    features = np.stack([own, own + 2 * plain[:, 0] - plain[:, 1] ** 2], axis=1)
    left = adjusted(features, plain)
    assert np.corrcoef(left[:, 1], own)[0, 1] > 0.98 and abs(np.corrcoef(left[:, 1], plain[:, 0])[0, 1]) < 0.01


def test_a_fold_scores_as_a_discriminant_of_scikit_learn() -> None:
    features, member = drawn(90, shift=1.0, members=40), first(40, 90)
    (fold, *_) = evidence._folds(90, np.random.default_rng(0))
    own, others = features[fold.fitted], features[fold.scored]
    mean, deviation = own.mean(0), own.std(0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None)
    labels = member[fold.fitted]
    theirs.fit((own - mean) / deviation, labels)
    scores = theirs.decision_function((others - mean) / deviation)
    matrix = _without_shrinkage(features, fold)
    mine = matrix @ (labels / labels.sum() - ~labels / (~labels).sum())
    assert np.corrcoef(scores, mine)[0, 1] == pytest.approx(1, abs=1e-9)
    shrunk = evidence._solved(features, fold) @ (labels / labels.sum() - ~labels / (~labels).sum())
    assert 0.9 < np.corrcoef(scores, shrunk)[0, 1] < 1 - 1e-6


def _without_shrinkage(features: np.ndarray, fold: evidence.CrossFold) -> np.ndarray:
    before, evidence.SHRINKAGE = evidence.SHRINKAGE, 0.0
    try:
        return evidence._solved(features, fold)
    finally:
        evidence.SHRINKAGE = before


def test_no_picture_is_scored_by_a_fit_that_saw_it() -> None:
    member = first(30, 60)
    for public in (None, np.arange(60) >= 50):
        mine = member & ~(public if public is not None else np.zeros(60, bool))
        rng = np.random.default_rng(0)
        folds = evidence._folds(60, rng) if public is None else [evidence._halved(mine, public, rng)]
        for fold in folds:
            assert not set(fold.fitted) & set(fold.scored)
        scored = np.concatenate([fold.scored for fold in folds[: evidence.FOLDS]])
        assert len(set(scored)) == len(scored) and set(np.flatnonzero(mine)) <= set(scored)
        assert public is None or not set(np.flatnonzero(public)) & set(scored)
    noise = drawn(60, features=50, seed=4)
    leaky = np.linalg.lstsq(noise, member * 2.0 - 1, rcond=None)[0]
    scores = noise @ leaky
    assert auc(scores[member], scores[~member]) > 0.95  # as many features as fit anything
    assert 0.3 < np.mean([compared(drawn(60, 50, seed=k), member, permutations=1).auc for k in range(10)]) < 0.6


def test_p_is_the_share_of_relabellings_that_differ_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fold of two pictures each: all relabellings by hand."""
    monkeypatch.setattr(evidence, "AT_ONCE", 5)
    features = drawn(12, features=2, shift=2.0, members=6, seed=3)
    fold = evidence.CrossFold(np.array([0, 1, 2, 6, 7, 8]), np.array([3, 4, 5, 9, 10, 11]))
    monkeypatch.setattr(evidence, "_folds", lambda count, rng: [fold])
    labels = first(6, 12).astype(float)
    matrix = evidence._solved(features, fold)
    scores = matrix @ (labels[fold.fitted] / 3 - (1 - labels[fold.fitted]) / 3)
    gaps = [scores[list(order)][:3].sum() - scores[list(order)][3:].sum() for order in set(permutations(range(6)))]
    exact = np.mean(np.array(gaps) >= gaps_of(scores) - 1e-9)
    assert p_of_set(features, first(6, 12), permutations=4000) == pytest.approx(exact, abs=0.02)


def gaps_of(scores: np.ndarray) -> float:
    return float(scores[:3].sum() - scores[3:].sum())


@pytest.mark.parametrize(("members", "others", "public"), [(25, 40, 0), (40, 25, 0), (24, 40, 30)])
def test_sets_that_were_drawn_alike_are_found_as_often_as_alpha_says(members: int, others: int, public: int) -> None:
    count, sets = members + others + public, 200
    hits = 0
    for seed in range(sets):
        features = normal_scores(drawn(count, features=12, seed=seed))
        known = np.arange(count) >= members + others
        features[known] += 0.3
        given = known if public else None
        hits += p_of_set(features, first(members, count), public=given, permutations=99, seed=seed) <= 0.05
    low, high = wilson_interval(hits, sets)
    assert low <= 0.05 <= high


def test_the_interval_of_an_auc_holds_what_refits_vary_by() -> None:
    """Sets that were drawn alike: 0.5 lies within, about as often as 95 % says."""
    found = [compared(normal_scores(drawn(50, 6, seed=k)), first(25, 50), permutations=1) for k in range(30)]
    within = sum(low <= 0.5 <= high for _, _, (low, high), _ in found)
    assert wilson_interval(within, 30)[1] >= 0.95
    assert all(low <= value <= high for _, value, (low, high), _ in found)


def test_a_difference_is_found_the_surer_the_more_pictures_there_are() -> None:
    features = drawn(400, shift=1.0, members=200)
    found = compared(normal_scores(features), first(200, 400), permutations=999)
    assert found.p == 1 / 1000 and found.interval[0] > 0.6 and found.auc > 0.65

    def test(part: np.ndarray, member: np.ndarray, draw: int) -> float:
        return p_of_set(part, member, permutations=99, seed=draw)

    points = found_by(test, normal_scores(features), first(200, 400), [20, 100], draws=30)
    assert [p["pictures"] for p in points] == [20, 100] and points[0]["share"] < points[1]["share"] > 0.9


def test_the_fit_on_public_pictures_is_what_finds_the_others() -> None:
    features = drawn(180, shift=2.0, members=40)
    features[120:, 0] += 2.0
    public = np.arange(180) >= 120
    found = compared(features, first(40, 180), public=public, permutations=999)
    assert found.p < 0.01 and np.isnan(found.scores).sum() == 60 + 40  # public ones, and half of the held-out ones
    features[120:, 0] -= 4.0  # of a fit that looks for the contrary, the same pictures are no members
    assert p_of_set(features, first(40, 180), public=public, permutations=999) > 0.99


def test_noethers_numbers_find_what_they_say() -> None:
    assert needed(0.5) is None and needed(0.3) is None and needed(1.0) == 5
    assert needed(0.6) == 104 and needed(0.6, alpha=0.01) > 104  # (1.645 + 0.842)^2 / (6 0.01)
    assert detectable(104, 104) == pytest.approx(0.6, abs=0.001) and detectable(20, 2000) < detectable(20, 20)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        mine, others = rng.standard_normal(104) + 0.3583, rng.standard_normal(104)  # an AUC of .6
        score = (auc(mine, others) - 0.5) / np.sqrt((2 * 104 + 1) / (12 * 104**2))
        hits += int(score > 1.645)
    low, high = wilson_interval(hits, 300)
    assert low - 0.02 <= 0.8 <= high + 0.02


def test_a_rate_of_false_alarms_counts_held_out_pictures_as_high() -> None:
    scores = np.array([3.0, 1.0, 0.0, 2.0, 1.0, np.nan])
    member, held_out = first(3, 6), ~first(3, 6)
    assert false_positive_rates(scores, member, held_out)[:3].tolist() == [1 / 3, 1.0, 1.0]
    assert np.isnan(false_positive_rates(scores, member, held_out)[3:]).all()


def test_a_verdict_is_undecided_where_the_sets_differ_without_the_model() -> None:
    assert verdict(0.2, 0.01, 0.05) == "no evidence" and verdict(0.01, 0.2, 0.05) == "used"
    assert verdict(0.01, 0.01, 0.05) == "undecided"


def planted_rows(members: int, others: int, strength: float, shift: float = 0.0) -> list[dict]:
    """Rows as a run has them, of pictures of a planted model that was trained on the first ones."""
    mine, held_out = planted_set.pictures(members, 1), planted_set.pictures(others, 2)
    seen = SeenPictures(planted_set.model(mine, strength), torch.cat([mine, held_out]))
    signals = {f.__name__: f(seen).double().tolist() for f in (denoising_loss, low_frequency_loss)}
    signals["proximal_initialization"] = proximal_initialization(seen).double().tolist()
    rng = np.random.default_rng(0)
    rows = []
    for k in range(members + others):
        looks = {"red": rng.standard_normal() + shift * (k < members), "bytes": rng.standard_normal()}
        role = "picture" if k < members else "held-out"
        own = {name: values[k] for name, values in signals.items()}
        rows.append({"id": str(k), "prompt": "", "status": "ok", "role": role, "signals": own, "plain": looks})
    return rows


def test_non_members_of_a_planted_model_are_found_at_most_as_often_as_alpha_says() -> None:
    """Sets drawn from pictures that were not trained on, with signals of a model that was trained on others."""
    others, sets = planted_set.pictures(150, 5), 200
    seen = SeenPictures(planted_set.model(planted_set.pictures(40, 1), 0.5), others)
    made = [denoising_loss(seen), low_frequency_loss(seen), proximal_initialization(seen)]
    features = normal_scores(np.concatenate([each.double().numpy() for each in made], axis=1))
    rng, hits = np.random.default_rng(0), 0
    for draw in range(sets):
        order = rng.permutation(150)[:60]
        hits += p_of_set(features[order], first(30, 60), permutations=99, seed=draw) <= 0.05
    low, high = wilson_interval(hits, sets)
    assert low <= 0.05 <= high


def test_rows_of_a_planted_set_are_found_and_named_and_those_of_another_are_not() -> None:
    rows, said = concluded(planted_rows(40, 120, 1.0), alpha=0.05, fpr=0.01, adjust=True, seed=0)
    assert said["verdict"] == "used" and said["p"] < 0.001 and said["auc_interval"][0] > 0.9
    assert said["named"] == sum(row["named"] for row in rows) > 20 and not said["notes"]
    assert all(row["role"] == "picture" for row in rows if row["named"])
    assert said["signals"]["denoising_loss"]["auc"] > 0.9 and said["needed"] < 10
    _, none = concluded(planted_rows(40, 120, 0.0), alpha=0.05, fpr=0.01, adjust=True, seed=0)
    assert none["verdict"] == "no evidence" and none["named"] == 0 and "as a whole" in none["notes"][0]
    assert none["needed_interval"][1] is None and 0.6 < none["detectable_auc"] < 0.7


def test_sets_that_differ_in_their_looks_are_undecided() -> None:
    _, said = concluded(planted_rows(40, 60, 1.0, shift=3.0), alpha=0.05, fpr=0.01, adjust=False, seed=0)
    assert said["blind_p"] < 0.01 and said["blind_auc"] > 0.9 and said["verdict"] == "undecided"


def test_single_pictures_are_not_named_where_too_few_were_held_out_or_chance_names_as_many() -> None:
    _, few = concluded(planted_rows(40, 60, 1.0), alpha=0.05, fpr=0.01, adjust=True, seed=0)
    assert few["verdict"] == "used" and few["named"] == 0 and "60 held-out ones are too few" in few["notes"][0]
    _, loose = concluded(planted_rows(40, 60, 1.0), alpha=0.05, fpr=0.6, adjust=True, seed=0)
    assert loose["named"] == 0 and "24.0 would be by chance" in loose["notes"][0]


def test_too_few_rows_that_could_be_read_give_no_p() -> None:
    rows = planted_rows(25, 25, 1.0)
    rows[:6] = [{"id": str(k), "prompt": "", "status": "failed", "error": "torn"} for k in range(6)]
    same, said = concluded(rows, alpha=0.05, fpr=0.01, adjust=True, seed=0)
    assert same == rows and said["p"] is None and said["verdict"] == "undecided" and said["pictures"] == 19


def test_a_table_has_a_column_for_each_value_and_knows_its_sets() -> None:
    rows = planted_rows(3, 2, 1.0)
    rows[4]["role"] = "public"
    table = Table.of(rows)
    assert table.names == ["denoising_loss"] * 8 + ["low_frequency_loss"] * 8 + ["proximal_initialization"] * 3
    assert table.signals.shape == (5, 19) and table.plain.shape == (5, 2)
    assert table.member.tolist() == [True] * 3 + [False] * 2
    assert table.held_out.tolist() == [False] * 3 + [True, False]
