"""Alignment by medians, of true images and of references, on numbers that are known."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mnemoscope import measures
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.measuring.comparison import Comparison, Generated
from mnemoscope.measuring.sides import ImageReferences
from mnemoscope.pictures import Picture

GREY = {"a": (10, 20, 40, 80), "b": (5, 6, 7, 8), "c": (200, 100, 0, 50)}  # of each prompt's four images


class Grey:
    """An alignment that is the grey level, but unknown for one prompt."""

    name, range = "grey", (0.0, 255.0)

    def align(self, images, prompts):
        pairs = zip(images, prompts, strict=True)
        return np.array([np.nan if prompt == "c" else float(np.asarray(image)[0, 0, 0]) for image, prompt in pairs])


class Plain(Picture):
    """A picture of one grey level."""

    def image(self) -> Image.Image:
        return Image.new("RGB", (4, 4), (int(self.key.split("-")[-1]),) * 3)


def plain(level: int, key: str = "x", captions: tuple[str, ...] = ()) -> Picture:
    return Plain(f"{key}-{level}", lambda: b"", captions)


def comparison(kinds: dict[str, str] | None = None, seeds: tuple[int, ...] = (0, 1, 2, 3)) -> Comparison:
    """Each prompt's images; of `a` there are two true images, of which the brighter is nearest to seed 0."""
    images = [
        Generated(plain(level, f"{p}{k}"), p, p, p, seeds[k], (kinds or {}).get(p))
        for p, own in GREY.items()
        for k, level in enumerate(own)
    ]
    references = [plain(100, "r0", ("a",)), plain(60, "r1", ("a",)), plain(30, "r2", ("b", "a second caption"))]
    references += [plain(90, "r3", ("c",)), plain(1, "r4")]
    vectors = np.eye(5, dtype=np.float32)
    own = {"a": [0.2, 0.9, 0, 0, 0], "b": [0, 0, 0.8, 0, 0], "c": [0, 0, 0, 0.8, 0]}
    generated = np.array([own[g.prompt] for g in images], np.float32)
    generated[1] = [0.9, 0.1, 0, 0, 0]  # of seed 1 the other one is nearest
    return Comparison(
        images, generated, descriptor("pixels"), corpus=ImageReferences(references, vectors), aligner=Grey()
    )


def test_medians_over_images_then_over_prompts_by_kind() -> None:
    said = measures.median_alignment(comparison({"a": "VM", "b": "TM"}))
    assert said.columns["median_alignment"] == [30] * 4 + [6.5] * 4 + [None] * 4
    assert said.summary["alignment_median"] == pytest.approx(18.25)
    assert said.summary["alignment_mad"] == pytest.approx(11.75)
    assert (said.summary["alignment_vm_median"], said.summary["alignment_tm_median"]) == (30, 6.5)
    assert (said.summary["alignment_prompts"], said.summary["alignment_missing"]) == (2, 1)
    assert said.summary["model"] == "grey"


def test_the_lower_of_two_middle_values_is_that_of_torch() -> None:
    said = measures.median_alignment(comparison(), median="lower")
    assert said.columns["median_alignment"][:8] == [20] * 4 + [6] * 4
    assert said.summary["alignment_median"] == 6
    assert "alignment_vm_median" not in said.summary


def test_the_true_image_is_that_nearest_to_the_lowest_seed() -> None:
    said = measures.true_image_alignment(comparison())
    assert said.columns["true_image_alignment"] == [60] * 4 + [30] * 4 + [None] * 4
    assert said.summary["true_alignment"] == pytest.approx(45)
    assert said.summary["generated_alignment"] == pytest.approx((37.5 + 6.5) / 2)
    assert said.summary["difference"] == pytest.approx(22 - 45)
    assert (said.summary["prompts"], said.summary["missing"]) == (2, 1)
    other = measures.true_image_alignment(comparison(seeds=(4, 1, 2, 3)))
    assert other.columns["true_image_alignment"][:4] == [100] * 4


def test_references_are_measured_by_their_first_caption() -> None:
    said = measures.reference_alignment(comparison()).summary
    assert said["mean"] == pytest.approx((100 + 60 + 30) / 3)
    assert (said["references"], said["uncaptioned"], said["unknown"]) == (3, 1, 1)


def test_images_and_texts_are_judged_once_for_all_measures() -> None:
    seen = []

    class Counting(Grey):
        def align(self, images, prompts):
            seen.extend(prompts)
            return super().align(images, prompts)

    whole = replace(comparison(), aligner=Counting())
    measures.alignment(whole)
    measures.alignment(whole, text="used")
    measures.median_alignment(whole)
    assert len(seen) == 12 + 2 * 12  # with their own prompts once, and with another's for each of the two texts


def test_without_a_judge_each_says_what_is_lacking() -> None:
    whole = replace(comparison(), aligner=None)
    for measure in (measures.median_alignment, measures.true_image_alignment, measures.reference_alignment):
        with pytest.raises(UsageError, match="nothing to measure alignment with"):
            measure(whole)
