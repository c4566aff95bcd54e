"""Every registered measure against its contract, on a comparison that has all that a measure may need."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mnemoscope import registry
from mnemoscope.features import descriptor
from mnemoscope.measuring.comparison import Comparison, Generated, ImageFeatures
from mnemoscope.measuring.multiplicity import Multiplicity
from mnemoscope.measuring.sides import ImageReferences
from mnemoscope.pictures import Picture
from mnemoscope.run.run import write_json

PROMPTS, SEEDS, REFERENCES = 5, 4, 14
FEW = {"resamples": 20, "permutations": 20, "subsets": 5}
DRAWN = {"kernel_distance": ("mean", "sd")}  # of subsets that are drawn by place


class Judge:
    """An alignment that is the mean grey level."""

    name, range = "mean grey level", (0.0, 1.0)

    def align(self, images: list[Image.Image], prompts: list[str]) -> np.ndarray:
        return np.array([np.asarray(image.convert("L")).mean() / 255 for image in images])


def picture(key: str, seed: int, noise: float = 0.0) -> Picture:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48))
    own = np.random.default_rng(zlib.crc32(key.encode()))
    values = np.asarray(small, float) + noise * own.standard_normal((48, 48, 3))
    image = Image.fromarray(values.clip(0, 255).astype(np.uint8))

    class Drawn(Picture):
        def image(self) -> Image.Image:
            return image

    return Drawn(key, lambda: b"")


@pytest.fixture(scope="module")
def whole() -> Comparison:
    """Five prompts of four images: the first two copy their reference, the others are new."""
    pixels = descriptor("pixels")
    references = [picture(f"r{k}", k) for k in range(REFERENCES)]
    references = [replace(p, captions=(f"prompt {k}",)) for k, p in enumerate(references)]
    known = {f"r{k}": picture(f"r{k}", k) for k in range(REFERENCES)}
    made, images = [], []
    for k in range(PROMPTS):
        for seed in range(SEEDS):
            drawn = picture(f"g{k}-{seed}", k if k < 2 else 100 + 10 * k + seed, noise=5.0)
            made.append(Generated(drawn, f"prompt {k}", f"prompt {k}", f"p{k}", seed, "verbatim" if k < 2 else None))
            images.append(drawn.image())
    rng = np.random.default_rng(0)
    side = ImageReferences([known[p.key] for p in references], pixels([known[p.key].image() for p in references]))
    side.captions = [p.captions for p in references]
    tokens = [rng.standard_normal((n, 4, 8)).astype(np.float32) for n in (len(made), REFERENCES)]
    unit = [t / np.linalg.norm(t, axis=2, keepdims=True) for t in tokens]
    return Comparison(
        made,
        pixels(images),
        pixels,
        corpus=side,
        threshold=0.8,
        top=3,
        baseline_vectors=pixels([known[f"r{k}"].image() for k in range(PROMPTS) for _ in range(SEEDS)]),
        tokens=(unit[0], unit[1]),
        features=ImageFeatures("random", rng.standard_normal((len(made), 4)), rng.standard_normal((REFERENCES, 4))),
        aligner=Judge(),
        held_out=[picture(f"h{k}", 500 + k) for k in range(3)],
        multiplicity=multiplicity(np.array([2.0] + [1.0] * (REFERENCES - 1))),
    )


def multiplicity(copies: np.ndarray) -> Multiplicity:
    """Of references that each show another picture."""
    return Multiplicity(copies, copies, np.arange(len(copies)), np.ones(len(copies), bool))


def shuffled(comparison: Comparison, order: np.ndarray) -> Comparison:
    assert comparison.tokens and comparison.features and comparison.baseline_vectors is not None
    return replace(
        comparison,
        generated=[comparison.generated[k] for k in order],
        vectors=comparison.vectors[order],
        baseline_vectors=comparison.baseline_vectors[order],
        tokens=(comparison.tokens[0][order], comparison.tokens[1]),
        features=replace(comparison.features, generated=comparison.features.generated[order]),
    )


def taken(name: str, comparison: Comparison):
    found = registry.get("measure", name)
    return found.function(comparison, **{k: v for k, v in FEW.items() if k in found.parameters})


@pytest.mark.parametrize("name", registry.names("measure"))
def test_a_measure_gives_finite_numbers_that_json_holds(name: str, whole: Comparison, tmp_path) -> None:
    found = registry.get("measure", name)
    assert set(found.needs) <= whole.known
    said = taken(name, whole)
    assert said.summary or said.columns
    for column, values in said.columns.items():
        assert len(values) == len(whole.generated), column
    write_json(tmp_path / "said.json", dict(said.summary))
    written = json.dumps(said.summary, default=str)
    assert "NaN" not in written and "Infinity" not in written
    for key, value in said.summary.items():
        if key.endswith("_interval") and value is not None:
            low, high = value
            assert low <= said.summary[key.removesuffix("_interval")] + 1e-9 and low <= high


@pytest.mark.parametrize("name", registry.names("measure"))
def test_a_measure_is_deterministic_and_does_not_depend_on_the_order(name: str, whole: Comparison) -> None:
    first, again = taken(name, whole), taken(name, whole)
    assert json.dumps(first.summary, default=str) == json.dumps(again.summary, default=str)
    order = np.random.default_rng(3).permutation(len(whole.generated))
    other = taken(name, shuffled(whole, order))
    for column, values in first.columns.items():
        assert [values[k] for k in order] == pytest.approx(list(other.columns[column]), abs=1e-5, nan_ok=True), column
    for key, value in first.summary.items():
        if isinstance(value, int | float) and key not in DRAWN.get(name, ()):
            assert other.summary[key] == pytest.approx(value, abs=1e-5), key


def test_copies_are_told_from_new_images_by_every_measure_of_copying(whole: Comparison) -> None:
    copied = [g.prompt_id in ("p0", "p1") for g in whole.generated]
    assert taken("replication", whole).columns["replicated"] == copied
    assert taken("own_image", whole).columns["own_is_nearest"][: 2 * SEEDS] == [True] * 2 * SEEDS
    assert taken("verification", whole).summary["verified"] == 2
    ratio = taken("memorization_ratio", whole).summary
    assert ratio["rate"] == pytest.approx(2 / PROMPTS)
