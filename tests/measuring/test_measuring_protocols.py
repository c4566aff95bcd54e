"""Own images, Wen's true images, NeMo's medians, verification, duplication: planted cases with known answers."""

import math

import numpy as np
import pytest
import torch

from mnemoscope.errors import UsageError
from mnemoscope.measures.duplication import by_duplication
from mnemoscope.measures.true_images import best_true, over_dataset, over_generations
from mnemoscope.measures.verification import verification_counts, verified_prompts
from mnemoscope.measuring import nemo
from mnemoscope.measuring.own import best_own, nearest_rate, own_is_nearest
from mnemoscope.stats import wilson_interval

OWN = ((0, 3), (1,), (), (2,), (4,))
OWN_SIMILARITY = tuple(np.array(each, np.float32) for each in ([0.2, 0.9], [0.4], [], [0.7], [0.6]))


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_own_is_the_best_of_the_own_references():
    scores, positions = best_own(OWN, OWN_SIMILARITY)
    assert scores == pytest.approx([0.9, 0.4, math.nan, 0.7, 0.6], nan_ok=True)
    assert positions.tolist() == [3, 1, -1, 2, 4]
    with pytest.raises(UsageError, match="one similarity for each"):
        best_own(OWN, OWN_SIMILARITY[::-1])


def test_own_is_nearest_by_position_or_by_a_tie():
    """The second copy of the own reference (position 9) is no other image; a nearer one is."""
    scores, _ = best_own(OWN, OWN_SIMILARITY)
    nearest = np.array([0.9, 0.8, 0.5, 0.7, 0.6 + 1e-4], np.float32)
    found = own_is_nearest(OWN, scores, nearest, np.array([3, 7, 0, 9, 8]))
    assert found == pytest.approx([1, 0, math.nan, 1, 0], nan_ok=True)
    rate = nearest_rate(found, OWN, 10, ["a", "b", "c", "d", "e"])
    assert (rate["own_nearest_rate"], rate["own_images"]) == (0.5, 4)
    assert rate["own_nearest_chance"] == pytest.approx((0.2 + 0.1 * 3) / 4)
    low, high = rate["own_nearest_rate_interval"]
    assert low < 0.5 < high
    with pytest.raises(UsageError, match="No image has a reference"):
        nearest_rate(np.array([math.nan]), ((),), 10)


def test_unrelated_images_have_their_own_nearest_as_often_as_chance():
    rng = np.random.default_rng(0)
    references, generated = unit(rng, 20, 8), unit(rng, 4000, 8)
    whole, own = generated @ references.T, tuple((k % 20,) for k in range(4000))
    scores, _ = best_own(own, [row[list(each)] for row, each in zip(whole, own, strict=True)])
    found = nearest_rate(own_is_nearest(own, scores, whole.max(axis=1), whole.argmax(axis=1)), own, 20)
    low, high = found["own_nearest_rate_interval"]
    assert found["own_nearest_chance"] == pytest.approx(0.05)
    assert low < 0.05 < high < 0.07


def test_wens_maximum_then_mean_maximum_minimum():
    first = np.array([[0.1, 0.9, 0.3, 0.4], [0.5, 0.2, 0.3, 0.7]])
    second = np.array([[0.2, 0.1]])
    best, which = best_true(first)
    assert best.tolist() == [0.5, 0.9, 0.3, 0.7] and which.tolist() == [1, 0, 0, 1]
    pooled = np.concatenate([best, best_true(second)[0], [math.nan]])
    found = over_generations(pooled, ["a"] * 4 + ["b"] * 2 + ["no true image"])
    assert found["a"] == pytest.approx({"mean": 0.6, "max": 0.9, "min": 0.3})
    assert found["b"] == pytest.approx({"mean": 0.15, "max": 0.2, "min": 0.1}) and len(found) == 2
    whole = over_dataset(list(found.values()))
    assert whole["prompts"] == 2
    assert [whole[f"true_{key}"] for key in ("mean", "max", "min")] == pytest.approx([0.375, 0.55, 0.2])
    assert whole["true_max_interval"] == pytest.approx([0.2, 0.9])
    with pytest.raises(UsageError, match="empty"):
        best_true(np.empty((0, 4)))
    with pytest.raises(UsageError, match="2 prompts were given for 7"):
        over_generations(pooled, ["a", "b"])


@pytest.mark.parametrize("count", [9, 10])
def test_lower_median_is_torchs(count):
    values = np.random.default_rng(count).normal(size=count)
    tensor = torch.from_numpy(values)
    lower = tensor.median()
    assert nemo.median_of(values, "lower") == lower.item()
    assert nemo.median_of(values) == pytest.approx(np.median(values))
    found = nemo.over_prompts(values.tolist(), "x", median="lower")
    assert (found["x_median"], found["x_mad"]) == (lower.item(), (tensor - lower).abs().median().item())
    standard = nemo.over_prompts(values.tolist(), "x")
    assert standard["x_mad"] == pytest.approx(np.median(np.abs(values - np.median(values))))
    if count == 10:
        assert lower.item() < nemo.median_of(values)


def test_nemos_numbers_of_a_prompt():
    """Against torch, whose median the released code takes, on a random prompt of three originals and ten images."""
    rng = np.random.default_rng(3)
    originals, images, plain = unit(rng, 3, 6), unit(rng, 10, 6), unit(rng, 10, 6)
    similarity = torch.from_numpy(originals) @ torch.from_numpy(images).T
    each = similarity.median(dim=0).values
    found = nemo.to_originals((originals @ images.T), median="lower")
    assert found == pytest.approx(
        {"max": each.max().item(), "min": each.min().item(), "median": each.median().item()}, abs=1e-6
    )
    paired = torch.nn.functional.cosine_similarity(torch.from_numpy(images), torch.from_numpy(plain))
    assert nemo.to_unmitigated(images, plain, median="lower") == pytest.approx(paired.median().item(), abs=1e-6)
    pairs = [torch.from_numpy(images[a] * images[b]).sum() for a in range(10) for b in range(a)]
    assert len(pairs) == 45
    assert nemo.diversity(images, median="lower") == pytest.approx(torch.stack(pairs).median().item(), abs=1e-6)
    assert nemo.diversity(images) == pytest.approx(np.median(pairs), abs=1e-6)
    apart = torch.cdist(torch.from_numpy(originals), torch.from_numpy(images))
    assert nemo.distances(originals @ images.T) == pytest.approx(apart.numpy(), abs=1e-5)


def test_images_that_cannot_be_paired():
    rng = np.random.default_rng(0)
    assert nemo.diversity(unit(rng, 1, 4)) is None
    assert nemo.diversity(np.repeat(unit(rng, 1, 4), 3, axis=0)) == pytest.approx(1)
    with pytest.raises(UsageError, match="3 mitigated images"):
        nemo.to_unmitigated(unit(rng, 3, 4), unit(rng, 2, 4))


def test_the_last_prompt_is_dropped_only_on_request():
    values, kinds = [0.9, 0.8, 0.1, None, 0.3], ["VM", "VM", "TM", None, "TM"]
    found = nemo.over_prompts(values, "s", kinds=kinds)
    assert (found["s_median"], found["s_prompts"], found["s_missing"]) == (pytest.approx(0.55), 4, 1)
    assert (found["s_vm_median"], found["s_tm_median"], found["s_tm_prompts"]) == (
        pytest.approx(0.85),
        pytest.approx(0.2),
        2,
    )
    dropped = nemo.over_prompts(values, "s", kinds=kinds, compat="nemo")
    assert (dropped["s_median"], dropped["s_prompts"], dropped["s_tm_median"]) == (0.8, 3, 0.1)
    assert dropped["s_tm_median_interval"] is None
    empty = nemo.over_prompts([None], "s")
    assert (empty["s_median"], empty["s_mad_interval"], empty["s_missing"]) == (None, None, 1)
    with pytest.raises(UsageError, match="1 kinds were given for 5 prompts"):
        nemo.over_prompts(values, "s", kinds=["VM"])


def test_kinds_by_rule_and_by_name():
    assert nemo.kinds_of([0.71, 0.7, 0.1, None]) == ["VM", "TM", "TM", None]
    assert nemo.known_kinds(["VM", "tm", "verbatim", "Template", "ordinary", None]) == [
        "VM",
        "TM",
        "VM",
        "TM",
        None,
        None,
    ]


def test_members_come_in_order_of_appearance():
    found = nemo.members(np.array([5, 2, 5, 9, 2]))
    assert [places.tolist() for places in found] == [[0, 2], [1, 4], [3]]


def test_verification_by_prompt_and_seed():
    own = np.array([0.9, 0.2, 0.5, 0.4, math.nan, 0.8, 0.95])
    rows = verified_prompts(own, ["a", "a", "b", "b", "gone", "c", "c"], [0, 1, 0, 1, 0, 0, 1], threshold=0.5)
    assert rows[0] == {"prompt": "a", "seeds": [0, 1], "passed": [0], "best": 0.9, "verified": True}
    assert [row["verified"] for row in rows] == [True, False, None, True]
    assert rows[2] == {"prompt": "gone", "seeds": [], "passed": [], "best": None, "verified": None}
    found = verification_counts(rows)
    assert [found[key] for key in ("verified", "unverified", "unknown")] == [2, 1, 1]
    assert (found["images"], found["images_passed"]) == (6, 3)
    assert found["verified_rate_interval"] == pytest.approx(wilson_interval(2, 3))
    assert found["all_seeds_rate"] == pytest.approx(1 / 3)
    assert verification_counts(rows[2:3])["verified_rate"] is None
    with pytest.raises(UsageError, match="2 prompts"):
        verified_prompts(own, ["a", "b"], [0, 1], threshold=0.5)


def test_duplication_tells_the_copied_from_the_rest():
    """Matches on a reference trained on five times are 0.3 more similar, and twice as frequent as its samples."""
    rng = np.random.default_rng(0)
    copies = np.array([5, 1, 1, 1, 1, 1])
    positions = np.where(np.arange(300) % 6 < 5, 0, 1 + np.arange(300) % 5)
    similarity = np.where(positions == 0, 0.7, 0.4) + rng.normal(0, 0.05, 300)
    found = by_duplication(similarity, positions, copies, [k // 3 for k in range(300)])
    assert (found["duplicated"]["images"], found["single"]["images"]) == (250, 50)
    for key, truth in (("duplicated", 0.7), ("single", 0.4)):
        low, high = found[key]["interval"]
        assert low < truth < high and high - low < 0.05
    assert found["matches_duplicated"] == pytest.approx(5 / 6)
    assert (found["sampled_duplicated"], found["listed_duplicated"]) == (0.5, pytest.approx(1 / 6))
    assert found["matches_duplicated_interval"][0] > 0.5


def test_duplication_of_one_side_only():
    found = by_duplication(np.array([0.5, 0.6]), np.array([0, 1]), np.array([1.0, 1.0, 5.0]))
    assert found["duplicated"] == {"images": 0, "mean": None, "interval": None}
    assert found["matches_duplicated_interval"] == pytest.approx(wilson_interval(0, 2))


@pytest.mark.parametrize(
    ("copies", "said"), [([1, -1], "negative"), ([0, 0], "all 0"), ([1], "beyond the 1 references")]
)
def test_copies_that_cannot_be(copies, said):
    with pytest.raises(UsageError, match=said):
        by_duplication(np.array([0.5]), np.array([1]), np.array(copies))
