"""The measures of copying on planted vectors: which reference each image is a copy of is known."""

import numpy as np
import pytest

from mnemoscope import measures, registry
from mnemoscope.features import descriptor
from mnemoscope.measuring.comparison import Comparison, Generated, Measured
from mnemoscope.measuring.multiplicity import Multiplicity
from mnemoscope.pictures import Picture

D, PROMPTS, SEEDS = 32, 8, 4
COPIED = 3  # prompts 0, 1, 2 bring back their own reference, prompt 3 that of prompt 0, the others nothing


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


class Corpus:
    """References in memory; the caption of each is a prompt."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.keys = [f"{k}.png" for k in range(len(vectors))]
        self.captions = [(f"prompt {k}",) for k in range(len(vectors))]

    def blocks(self):
        yield from (self.vectors[:5], self.vectors[5:])

    def image(self, position):
        return None


def comparison(**changed):
    rng = np.random.default_rng(0)
    references = unit(rng.normal(size=(20, D)))
    noise = unit(rng.normal(size=(PROMPTS, SEEDS, D)))
    copied = [0, 1, 2, 0]
    vectors = noise.copy()
    vectors[:4] = unit(references[copied][:, None] + 0.5 * noise[:4])
    generated = [
        Generated(
            Picture(f"{prompt}_{seed}.png", read=lambda: b""),
            f"prompt {prompt}" if prompt != 7 else "a prompt of no reference",
            prompt_id=f"p{prompt}",
            seed=seed,
            kind="verbatim" if prompt < 3 else "template" if prompt == 3 else "ordinary",
            label=prompt < 4,
        )
        for prompt in range(PROMPTS)
        for seed in range(SEEDS)
    ]
    given = {"corpus": Corpus(references), "threshold": 0.6, "descriptor": descriptor("pixels"), "seed": 1} | changed
    return Comparison(generated, vectors.reshape(-1, D), **given)


def test_replication_counts_the_copies():
    said = measures.replication(comparison(), resamples=200)
    assert said.columns["replicated"] == [True] * 16 + [False] * 16
    assert said.summary["replication_rate"] == 0.5 and said.summary["above_half"] >= 0.5
    low, high = said.summary["replication_rate_interval"]
    assert low < 0.5 < high and high - low > 0.3  # eight prompts, not thirty-two images
    curve = said.arrays
    assert (np.diff(curve["share"]) <= 0).all() and (curve["low"] <= curve["high"]).all()
    assert curve["share"][curve["thresholds"] == 0.6] == 0.5


def test_background_is_that_of_references_which_are_not_alike():
    whole = comparison()
    said = measures.background(whole, resamples=200)
    plain = whole.corpus.vectors @ whole.corpus.vectors.T - 2 * np.eye(20, dtype=np.float32)
    assert said.summary["background_mean"] == pytest.approx(plain.max(axis=1).mean(), abs=1e-6)
    assert (said.summary["background_rate"], said.summary["background_references"]) == (0, 20)
    assert 0.7 < said.summary["auroc"] < 1
    assert said.arrays["generated_counts"].sum() == 32 and said.arrays["background_counts"].sum() == 20
    assert measures.background(whole, most=6, resamples=50).arrays["similarity"].shape == (6,)
    alone = measures.background(comparison(corpus=Corpus(whole.corpus.vectors[:1])))
    assert not alone.summary and "needs two" in alone.notes[0]


def test_own_image_is_told_from_any_image():
    said = measures.own_image(comparison(), resamples=200)
    assert said.summary["own_images"] == 28
    assert said.summary["own_rate"] == pytest.approx(12 / 28)
    assert said.columns["own_match"][12] == "3.png" and said.columns["own_is_nearest"][12] is False
    assert said.columns["own_is_nearest"][:12] == [True] * 12
    assert said.columns["own_match"][-1] is None and said.columns["own_is_nearest"][-1] is None
    assert said.summary["own_nearest_chance"] == pytest.approx(1 / 20)
    assert said.summary["own_nearest_rate"] >= 12 / 28


def test_true_images_are_summed_up_over_prompts():
    whole = comparison()
    said = measures.true_images(whole, resamples=50).summary
    own = np.array([float(each[0]) for each in whole.own_similarity[:28]]).reshape(7, 4)
    assert said["prompts"] == 7
    expected = [own.mean(axis=1).mean(), own.max(axis=1).mean(), own.min(axis=1).mean()]
    assert [said[f"true_{key}"] for key in ("mean", "max", "min")] == pytest.approx(expected, abs=1e-6)


def test_copies_are_less_diverse():
    said = measures.diversity(comparison(), resamples=50)
    assert len(said.columns["diversity"]) == 32 and said.columns["diversity"][0] == said.columns["diversity"][3]
    assert said.summary["pairs_vm_median"] > 0.6 > 0.2 > said.columns["diversity"][-1]
    assert (said.summary["pairs_prompts"], said.summary["pairs_tm_prompts"]) == (8, 1)


def test_originals_split_by_kind_and_by_rule():
    whole = comparison()
    said = measures.original_similarity(whole, resamples=50).summary
    assert said["split_by"] == "kind" and said["originals_max_vm_prompts"] == 3 and said["originals_max_missing"] == 1
    assert said["originals_max_vm_median"] > 0.8 and said["originals_max_tm_median"] < 0.5
    for ours, theirs in (("max", "min"), ("median", "median")):  # the four generations' medians lie between two of them
        apart = np.sqrt(2 - 2 * said[f"originals_{ours}_vm_median"])
        assert said[f"originals_distance_{theirs}_vm_median"] == pytest.approx(apart, abs=0.02)
    unnamed = comparison()
    for generated in unnamed.generated:
        object.__setattr__(generated, "kind", None)
    found = measures.original_similarity(unnamed, resamples=50)
    assert found.summary["split_by"] == "similarity"
    assert found.columns["memorization_type"] == ["VM"] * 12 + ["TM"] * 16 + [None] * 4
    dropped = measures.original_similarity(whole, compat="nemo", resamples=50).summary
    assert (dropped["originals_max_prompts"], dropped["originals_max_missing"]) == (7, 0)


def test_unmitigated_images_are_compared_by_seed():
    whole = comparison()
    plain = whole.vectors.copy()
    plain[:4] = -plain[:4]
    said = measures.unmitigated_similarity(comparison(baseline_vectors=plain), resamples=50)
    assert said.columns["unmitigated_similarity"] == pytest.approx([-1] * 4 + [1] * 28, abs=1e-6)
    assert said.summary["unmitigated_median"] == pytest.approx(1) and said.summary["unmitigated_mad"] == pytest.approx(
        0
    )


def test_verification_of_the_prompts_said_to_be_memorized():
    said = measures.verification(comparison())
    assert [said.summary[key] for key in ("verified", "unverified", "unknown")] == [3, 1, 0]
    assert said.columns["verified"] == [True] * 12 + [False] * 4 + [None] * 16
    assert said.columns["own_passed"][-1] is None and said.summary["verification_threshold"] == 0.6
    assert measures.verification(comparison(), threshold=1).summary["verified"] == 0


def shown(copies: np.ndarray) -> Multiplicity:
    """Of references that each show another picture."""
    return Multiplicity(copies, copies, np.arange(len(copies)), np.ones(len(copies), bool))


def test_duplication_splits_matches_by_copies():
    counts = np.ones(20)
    counts[0] = 6
    said = measures.duplication(comparison(multiplicity=shown(counts)), resamples=50)
    assert said.columns["match_copies"][:8] == [6] * 4 + [1] * 4
    assert said.summary["duplicated"]["mean"] > said.summary["single"]["mean"]
    assert said.summary["sampled_duplicated"] == pytest.approx(6 / 25) and said.summary["listed_duplicated"] == 0.05


def test_patches_find_a_copied_part():
    rng = np.random.default_rng(2)
    generated, references = rng.normal(size=(32, 9, 24)), rng.normal(size=(20, 9, 24))
    generated[0, 4] = references[7, 4]
    said = measures.patch_similarity(comparison(tokens=(generated, references)), resamples=50)
    assert said.columns["patch_match"][0] == "7.png" and said.columns["patch_score"][0] == pytest.approx(1)
    assert max(said.columns["patch_score"][1:]) < 0.9 and said.summary["patches_p95"] < 1


MINE = (
    "background",
    "diversity",
    "duplication",
    "original_similarity",
    "own_image",
    "patch_similarity",
    "replication",
    "true_images",
    "unmitigated_similarity",
    "verification",
)


@pytest.mark.parametrize("name", MINE)
def test_measures_do_not_depend_on_the_order_of_images(name):
    rng = np.random.default_rng(5)
    tokens = (rng.normal(size=(32, 4, 8)), rng.normal(size=(20, 4, 8)))
    given = {
        "tokens": tokens,
        "multiplicity": shown(np.arange(1.0, 21.0)),
        "baseline_vectors": unit(rng.normal(size=(32, D))),
    }
    whole, mixed = comparison(**given), rng.permutation(32)
    given |= {"tokens": (tokens[0][mixed], tokens[1]), "baseline_vectors": given["baseline_vectors"][mixed]}
    shuffled = Comparison(
        [whole.generated[k] for k in mixed],
        whole.vectors[mixed],
        **given,
        corpus=whole.corpus,
        threshold=0.6,
        descriptor=whole.descriptor,
        seed=1,
    )
    found = registry.get("measure", name)
    assert set(found.needs) <= whole.known
    one, other = found.function(whole), found.function(shuffled)
    assert isinstance(one, Measured)
    for key, values in one.columns.items():
        assert [values[k] for k in mixed] == pytest.approx(other.columns[key], nan_ok=True), key
    assert other.summary.keys() == one.summary.keys()
    for key, value in one.summary.items():
        assert other.summary[key] == (value if isinstance(value, dict) else pytest.approx(value)), key
