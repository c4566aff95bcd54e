"""Extraction by distances: ratios to the second nearest, tiles, cliques, agreement of seeds."""

import itertools
import math

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.measures.cliques import in_largest, largest_clique
from mnemoscope.measures.seed_agreement import agreement_by_prompt, agreement_summary
from mnemoscope.measuring.memorization_ratio import copies, memorization_ratio, memorized_share, nearest_features
from mnemoscope.measuring.tiles import tiled_distance
from mnemoscope.search.nearest_pixels import nearest
from mnemoscope.stats import wilson_interval


def images(n: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def test_nearest_features_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(11, 4))
    apart, at = nearest_features(x, y, 3)
    for k, vector in enumerate(x):
        ranked = sorted((math.dist(vector, each), j) for j, each in enumerate(y))[:3]
        assert at[k].tolist() == [j for _, j in ranked]
        assert apart[k] == pytest.approx([d for d, _ in ranked], rel=1e-9)


def test_nearest_features_take_one_of_each_group() -> None:
    y = np.array([[0.0], [1.0], [1.5], [4.0], [1.0]])
    groups = np.array([7, 2, 2, 5, 2])
    apart, at = nearest_features(np.array([[1.4], [0.4]]), y, 3, groups=groups)
    assert at.tolist() == [[2, 0, 3], [0, 1, 3]]
    assert apart == pytest.approx(np.array([[0.1, 1.4, 2.6], [0.4, 0.6, 3.6]]))
    assert copies(y).tolist() == [0, 1, 2, 3, 1]
    with pytest.raises(UsageError, match="4 nearest of 3 references"):
        nearest_features(y, y, 4, groups=groups)


def test_ratio_sees_a_copy_of_a_duplicated_image_only_apart_from_its_duplicates() -> None:
    y = np.array([[0.0, 0], [0, 0], [10, 0], [0, 12]])
    x = np.array([[0.0, 0], [1, 0], [9, 0], [5, 0]])
    found = memorization_ratio(nearest_features(x, y), nearest_features(x, y, groups=copies(y)))
    assert found["ratio"] == pytest.approx([1, 1, 1 / 9, 1])
    assert found["ratio_apart"] == pytest.approx([0, 1 / 9, 1 / 9, 1])
    assert found["memorized"].tolist() == [False, False, True, False]
    assert found["memorized_apart"].tolist() == [True, True, True, False]
    assert found["match"].tolist() == [0, 0, 2, 0] and found["nearest"] == pytest.approx([0, 1, 1, 5])


def test_a_third_is_not_below_a_third() -> None:
    pair = (np.array([[1.0, 4.0], [2.0, 4.0]]), np.array([[0, 1], [0, 1]]))
    assert memorization_ratio(pair, pair, threshold=0.25)["memorized"].tolist() == [False, False]
    assert memorization_ratio(pair, pair)["memorized"].tolist() == [True, False]


def test_ratio_on_pixels_finds_planted_copies() -> None:
    reference = images(60)
    reference[31] = reference[30]
    generated = images(20, seed=1)
    for k, j in enumerate((4, 30, 9)):
        generated[k] = np.clip(reference[j].astype(int) + np.random.default_rng(k).integers(-3, 4, (8, 8, 3)), 0, 255)
    rows, bank = (each.reshape(len(each), -1) for each in (generated, reference))
    found = memorization_ratio(nearest(rows, bank), nearest(rows, bank, distinct=True))
    assert np.flatnonzero(found["memorized"]).tolist() == [0, 2]
    assert np.flatnonzero(found["memorized_apart"]).tolist() == [0, 1, 2]
    assert found["match"][:3].tolist() == [4, 30, 9]
    same = memorization_ratio(
        nearest_features(rows.astype(float), bank.astype(float)),
        nearest_features(rows.astype(float), bank.astype(float), groups=copies(bank)),
    )
    assert all(np.allclose(found[name], same[name], rtol=1e-9) for name in found)


def test_share_has_the_interval_of_its_samples_and_the_floor_of_images_never_seen() -> None:
    ratios = {"memorized": np.arange(40) < 10, "memorized_apart": np.arange(40) < 12, "match": np.arange(40) // 2}
    held = {"memorized": np.arange(20) < 1, "memorized_apart": np.arange(20) < 2, "match": np.arange(20)}
    found = memorized_share(ratios, list(range(40)), held)
    assert found["rate"] == 0.25 and found["rate_interval"] == list(wilson_interval(10, 40))
    assert found["rate_apart"] == 0.3 and found["memorized_references"] == 6
    assert found["floor"] == 0.05 and found["floor_interval"] == list(wilson_interval(1, 20))
    assert found["floor_apart"] == 0.1
    together = memorized_share(ratios, [k // 10 for k in range(40)])
    assert together["rate_interval"] == [0, 0.75] and "floor" not in together


def test_ratio_refuses_what_has_none() -> None:
    one = (np.array([[1.0, np.inf]]), np.array([[0, -1]]))
    with pytest.raises(UsageError, match="two references that are no duplicates"):
        memorization_ratio(one, one)
    with pytest.raises(UsageError, match="threshold 1 was given"):
        memorization_ratio(one, one, threshold=1)


@pytest.mark.parametrize(("side", "tiles"), [(8, 4), (8, 1), (10, 4)])
def test_tiled_distance_is_the_worst_tile(side: int, tiles: int) -> None:
    a, b = images(3, side), images(4, side, 1)
    ends = [round(side * k / tiles) for k in range(tiles + 1)]
    for i, j in np.ndindex(3, 4):
        gap = (a[i].astype(float) - b[j]) / 255
        worst = max(
            np.sqrt(np.mean(np.square(gap[p:q, r:s])))
            for p, q in itertools.pairwise(ends)
            for r, s in itertools.pairwise(ends)
        )
        assert tiled_distance(a, b, tiles=tiles)[i, j] == pytest.approx(worst, rel=1e-12)


def test_tiled_distance_is_in_the_unit_of_the_whole_range() -> None:
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    assert tiled_distance(black, white).item() == 1 and tiled_distance(white, white).item() == 0
    corner = black.copy()
    corner[0, :2, :2] = 255  # equal backgrounds, and one tile that is not
    assert tiled_distance(black, corner).item() == 1
    assert tiled_distance(black, corner, tiles=1).item() == 0.25
    with pytest.raises(UsageError, match="8 x 8 and of 4 x 8"):
        tiled_distance(black, black[:, :, :4])
    with pytest.raises(UsageError, match="9 tiles across"):
        tiled_distance(black, black, tiles=9)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_largest_clique_is_that_of_all_subsets(density: float) -> None:
    for seed in range(8):
        upper = np.triu(np.random.default_rng(seed).random((12, 12)) < density, 1)
        joined = upper | upper.T
        best = max(
            len(c)
            for n in range(1, 13)
            for c in itertools.combinations(range(12), n)
            if joined[np.ix_(c, c)].sum() == n * n - n
        )
        found = largest_clique(joined)
        assert found.is_largest and len(found.members) == best
        assert all(joined[i, j] for i, j in itertools.permutations(found.members, 2))


def test_largest_clique_of_planted_duplicates_among_500() -> None:
    upper = np.triu(np.random.default_rng(0).random((500, 500)) < 0.02, 1)
    planted = np.random.default_rng(1).choice(500, 17, replace=False)
    upper[np.ix_(planted, planted)] = True
    joined = upper | upper.T
    found = largest_clique(joined)
    assert found.is_largest and set(planted.tolist()) <= set(found.members)
    assert largest_clique(joined) == found
    assert len(largest_clique(np.ones((300, 300), bool)).members) == 300  # on the diagonal an image is joined to itself


def test_a_search_cut_short_says_so_and_is_still_a_clique() -> None:
    upper = np.triu(np.random.default_rng(0).random((60, 60)) < 0.7, 1)
    joined = upper | upper.T
    cut, whole = largest_clique(joined, branches=20), largest_clique(joined)
    assert not cut.is_largest and whole.is_largest and 1 < len(cut.members) <= len(whole.members)
    assert all(joined[i, j] for i, j in itertools.permutations(cut.members, 2))


def test_cliques_at_the_ends() -> None:
    assert largest_clique(np.zeros((0, 0), bool)).members == ()
    assert len(largest_clique(np.zeros((4, 4), bool)).members) == 1
    with pytest.raises(UsageError, match="one direction"):
        largest_clique(np.triu(np.ones((3, 3), bool)))


def test_seed_agreement_is_the_mean_over_pairs() -> None:
    angles = np.radians([0, 0, 60, 10, 100, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = agreement_by_prompt(vectors, ["a", "b", "a", "a", "b", "c"], threshold=0.9)
    assert [row["prompt"] for row in rows] == ["a", "b", "c"] and rows[0]["places"] == [0, 2, 3]
    expected = [np.mean(np.cos(np.radians([60, 10, 50]))), np.cos(np.radians(100))]
    assert [row["agreement"] for row in rows[:2]] == pytest.approx(expected)
    assert [row["agreeing"] for row in rows[:2]] == pytest.approx([2 / 3, 0])
    assert np.isnan(rows[2]["agreement"])
    said = agreement_summary(rows)
    assert (said["prompts"], said["single"]) == (2, 1)
    assert said["agreement"] == pytest.approx(np.mean(expected)) and said["agreeing"] == pytest.approx(1 / 3)
    assert said["agreement_interval"][0] < said["agreement"] < said["agreement_interval"][1]
    assert agreement_summary(rows[2:])["agreement"] is None
    with pytest.raises(UsageError, match="1 prompts were given for 6 vectors"):
        agreement_by_prompt(vectors, ["a"], threshold=0.9)


def test_all_cliques_of_the_largest_size_count() -> None:
    joined = np.zeros((7, 7), dtype=bool)
    for clique in ((0, 1, 2), (4, 5, 6), (2, 3)):
        for a in clique:
            for b in clique:
                joined[a, b] = a != b
    found = largest_clique(joined)
    assert in_largest(joined, found).tolist() == [True, True, True, False, True, True, True]
