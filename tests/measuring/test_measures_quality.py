"""Measures of quality, complexity and extraction on images whose copies are planted."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save

from mnemoscope import measures, registry
from mnemoscope.features import descriptor
from mnemoscope.features.geometry import Geometry
from mnemoscope.measures.kernel_distance import mmd
from mnemoscope.measuring import comparison as sides
from mnemoscope.measuring.comparison import Comparison, Generated, Measured
from mnemoscope.measuring.complexity import complexity
from mnemoscope.measuring.frechet import frechet_distance
from mnemoscope.pictures import Picture

NAMES = (
    "alignment",
    "frechet_distance",
    "kernel_distance",
    "precision_recall",
    "density_coverage",
    "memorization_informed_distance",
    "complexity",
    "memorization_ratio",
    "tiled_distance",
    "cliques",
    "seed_agreement",
)
COPIED = 2  # prompts 0 and 1 bring back reference 0 and 1; reference 1 lies there twice


def drawn(rng: np.random.Generator, detail: int = 4) -> Image.Image:
    levels = rng.integers(0, 256, (detail, detail, 3)).astype(np.uint8)
    return Image.fromarray(levels).resize((48, 48), Image.Resampling.BICUBIC)


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    levels = np.asarray(image).astype(int) + rng.integers(-4, 5, (48, 48, 3))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def picture(key: str, image: Image.Image) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(key, read=lambda: file.getvalue())


class Corpus:
    """References in memory; the caption of each is a prompt."""

    def __init__(self, images: list[Image.Image], vectors: np.ndarray, hidden: bool = False) -> None:
        self.images, self.vectors, self.hidden = images, vectors, hidden
        self.keys = [f"{k}.png" for k in range(len(images))]
        self.captions = [(f"prompt {k}",) for k in range(len(images))]

    def blocks(self):
        yield self.vectors

    def image(self, position: int) -> Image.Image | None:
        return None if self.hidden else self.images[position]


class Brightness:
    """An alignment that anyone can check."""

    name, range = "mean grey level, minus the length of the prompt", (-1.0, 1.0)

    def align(self, images, prompts):
        pairs = zip(images, prompts, strict=True)
        return np.array([np.asarray(i.convert("L")).mean() / 255 - len(p) / 100 for i, p in pairs])


@pytest.fixture(scope="module")
def planted() -> Comparison:
    rng = np.random.default_rng(0)
    references = [drawn(rng, 3 + k % 6) for k in range(24)]
    references[20] = references[1]
    images = [noisy(references[p], rng) if p < COPIED else drawn(rng) for p in range(6) for _ in range(4)]
    pixels = descriptor("pixels")
    generated = [
        Generated(picture(f"{k}.png", image), f"prompt {k // 4}", f"prompt {k // 4} !", f"p{k // 4}", k % 4)
        for k, image in enumerate(images)
    ]
    held = [picture(f"h{k}.png", drawn(rng)) for k in range(10)]
    return Comparison(
        generated,
        pixels(images),
        pixels,
        corpus=Corpus(references, pixels(references)),
        threshold=0.9,
        aligner=Brightness(),
        held_out=held,
        seed=1,
    )


def changed(whole: Comparison, **other) -> Comparison:
    given = {name: getattr(whole, name) for name in Comparison.__dataclass_fields__}
    return Comparison(**given | other)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_numbers_with_their_intervals_and_a_value_for_every_image(planted: Comparison, name: str) -> None:
    method = registry.get("measure", name)
    assert set(method.needs) <= planted.known
    said = method.function(planted)
    assert isinstance(said, Measured) and said.summary
    assert all(len(column) == 24 for column in said.columns.values())
    for key in [key for key in said.summary if key.endswith("_interval") and said.summary[key]]:
        low, high = said.summary[key]
        assert low <= said.summary[key.removesuffix("_interval")] <= high, key
    again = method.function(planted)
    assert (again.columns, again.summary) == (said.columns, said.summary)


def test_alignment_takes_the_text_it_is_told(planted: Comparison) -> None:
    original, used = (measures.alignment(planted, text=text) for text in ("original", "used"))
    assert np.subtract(original.columns["alignment"], used.columns["alignment"]) == pytest.approx(0.02)
    assert original.summary["model"] == Brightness.name and used.summary["text"] == "used"
    percent = measures.alignment(planted, scale=100, clamp="image")
    assert percent.summary["mean"] == pytest.approx(100 * np.maximum(original.columns["alignment"], 0).mean())


def test_alignment_by_chance_is_that_with_another_prompt(planted: Comparison) -> None:
    longer = [replace(g, prompt="x" * (1 + k // 4)) for k, g in enumerate(planted.generated)]
    said = measures.alignment(changed(planted, generated=longer))
    more = np.subtract(
        said.columns["alignment"], said.columns["alignment_chance"]
    )  # the next prompt is a letter longer
    assert more == pytest.approx([0.01] * 20 + [-0.05] * 4)
    assert said.summary["chance"] == pytest.approx(np.mean(said.columns["alignment_chance"]))
    alone = changed(planted, generated=[replace(g, prompt="one") for g in planted.generated])
    assert np.isnan(measures.alignment(alone).columns["alignment_chance"]).all()
    assert measures.alignment(alone).summary["chance"] is None


def test_quality_is_of_the_network_if_there_is_one(planted: Comparison) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(size=(24, 5)), rng.normal(size=(24, 5))
    network = changed(planted, features=sides.ImageFeatures("a network", ours, theirs))
    said = measures.frechet_distance(network)
    assert said.summary["distance"] == frechet_distance(ours, theirs)["distance"]
    assert said.summary["features"] == "a network" and len(said.notes) == 1
    own = measures.frechet_distance(planted)
    assert own.summary["features"].startswith("pixels") and "do not span" in own.notes[1]
    halved = changed(planted, features=sides.ImageFeatures("a network", ours, None))
    assert halved.known >= {"a feature network"} and "vectors alone" in measures.kernel_distance(halved).notes[0]
    groups = [k // 4 for k in range(24)]
    kernels = measures.kernel_distance(network).summary
    assert {k: kernels[k] for k in ("value", "value_interval")} == mmd(ours, theirs, groups)
    few = measures.kernel_distance(network, most=10).summary
    assert (few["generated"], few["references"]) == (10, 10) and few["value"] != kernels["value"]


def test_images_that_were_not_drawn_have_no_value(planted: Comparison) -> None:
    for name in ("precise", "realism"):
        column = measures.precision_recall(planted, most=10).columns[name]
        assert sum(value is not None for value in column) == 10
    assert measures.precision_recall(planted).summary["precision"] == np.mean(
        measures.precision_recall(planted).columns["precise"]
    )


def test_too_few_images_are_a_note_and_no_failure(planted: Comparison) -> None:
    images = planted.references.images[:1]
    single = changed(planted, corpus=Corpus(images, planted.references.vectors[:1]))
    for name in NAMES:
        said = registry.get("measure", name).function(single)
        assert said.summary or said.notes, name
    assert "too few" in measures.density_coverage(single).notes[0]
    assert "three matched" in measures.complexity(single).notes[0]
    assert "two references" in measures.memorization_ratio(single).notes[0]


def test_memorization_informed_distance_of_copies_is_infinite(planted: Comparison) -> None:
    vectors = planted.references.vectors
    copied = changed(planted, vectors=vectors)
    said = measures.memorization_informed_distance(copied)
    assert said.summary["distance"] is None and "infinite" in said.notes[-1]


def test_complexity_is_that_of_the_matched_reference(planted: Comparison) -> None:
    said = measures.complexity(planted, permutations=50, resamples=20)
    first = complexity(Geometry(short=224, crop=224)(planted.references.images[0]))
    assert said.columns["match_jpeg_size"][:4] == [first["jpeg_size"]] * 4
    assert said.arrays["similarity"].shape == said.arrays["mixed"].shape == (24,)
    kept = load(save(dict(said.arrays)))  # it writes other numbers of an array that is a column of a larger one
    assert kept["similarity"].tolist() == planted.nearest[0][:, 0].tolist()
    assert set(said.arrays) == {"similarity", "entropy", "jpeg_size", "total_variation", "mixed"}
    assert -1 <= said.summary["entropy_pearson"] <= 1 and said.summary["mixed_spearman_p"] is None
    assert "matched references are too few for a p" in said.notes[0]
    plain = measures.complexity(planted, size=None, permutations=1, resamples=1)
    assert plain.columns["match_entropy"][0] == complexity(planted.references.images[0])["entropy"]


@pytest.mark.parametrize("on", ["pixels", "features"])
def test_ratio_finds_the_copies_and_misses_those_of_a_duplicate(planted: Comparison, on: str) -> None:
    said = measures.memorization_ratio(planted, on=on)
    assert said.columns["ratio_memorized"] == [True] * 4 + [False] * 20
    assert said.columns["ratio_memorized_apart"] == [True] * 8 + [False] * 16
    assert said.columns["ratio_match"][:4] == ["0.png"] * 4
    assert said.summary["rate"] == pytest.approx(1 / 6) and said.summary["rate_apart"] == pytest.approx(1 / 3)
    assert said.summary["floor"] == 0 and said.summary["floor_interval"][1] > 0.2
    assert (said.summary["references"], said.summary["distinct_references"]) == (24, 23)
    without = measures.memorization_ratio(changed(planted, held_out=()), on=on)
    assert without.columns == said.columns and "floor" not in without.summary


def test_ratio_of_pixels_needs_images(planted: Comparison) -> None:
    hidden = changed(planted, corpus=Corpus(planted.references.images, planted.references.vectors, hidden=True))
    assert "on=features" in measures.memorization_ratio(hidden).notes[0]
    assert measures.memorization_ratio(hidden, on="features").summary["rate"] == pytest.approx(1 / 6)


def test_tiles_and_cliques_find_the_copies(planted: Comparison) -> None:
    tiles = measures.tiled_distance(planted, size=48)
    assert tiles.columns["extracted"] == [True] * 8 + [False] * 16
    assert tiles.columns["tiled_match"][:8] == ["0.png"] * 4 + ["1.png"] * 4
    assert tiles.summary["extracted_rate"] == pytest.approx(1 / 3)
    for on in ("pixels", "features"):
        cliques = measures.cliques(planted, on=on, least=4, size=48)
        assert cliques.columns["clique"] == [4] * 8 + [1] * 16
        assert cliques.summary["rate"] == pytest.approx(1 / 3) and cliques.summary["largest"] == 4
        assert cliques.columns["in_clique"][:8] == [True] * 8
    assert "No prompt has 10 images" in measures.cliques(planted, size=48).notes[0]


def test_seeds_of_copied_prompts_agree(planted: Comparison) -> None:
    said = measures.seed_agreement(planted)
    assert min(said.columns["seed_agreement"][:8]) > 0.9 > 0.6 > max(said.columns["seed_agreement"][8:])
    assert said.summary["agreeing"] == pytest.approx(1 / 3) and said.summary["prompts"] == 6
