"""What a model is trained on: which pictures, how often each, under which captions, at which size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.run.settings import one_of, parameters

CONDITIONINGS = ("original", "nolevel", "class", "instance", "random", "multiple")
DUPLICATIONS = ("none", "both", "image")
WAYS = ("weights", "repeat")
SUBSETS = ("first", "random")
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class DataOptions:
    """Options of the training data; each is an option of the command line of the same name.

    `data` is the set that may be memorized and `base` what is mixed with it: sources as `read_pictures` takes them. Of
    `data` the `subset` (the first N pictures, or a share below 1; `subset_by=random` draws as many of each class) is
    listed `repeats` times, and pictures of `base` follow, `base_ratio` times as many. `captions` is a further file of
    captions for `data`, and `column` the column that has them.

    `duplication` shows a share `duplicated` of `data` `factor` times as often: with their captions ("both") or under
    any of their captions ("image"); `duplication_by` weights or literal repeats. `conditioning` is "original" (the
    source's own caption), "instance" (the first caption of the captions file), "multiple" (any caption, drawn at each
    view), "nolevel" ("An image"), "class" ("An image of ...") or "random" (four random tokens, the same at each view).
    `transform` names registered caption transforms, as in `random_words:count=2`, each of them applied with
    `probability` at each view.

    Images are resized to `resolution` at their shorter side (the model's own where it is None), cropped in the middle
    or anywhere, and flipped at half of their views with `random_flip`. Raises `UsageError`.
    """

    data: str
    base: str | None = None
    base_ratio: int | float = 0
    repeats: int = 1
    subset: int | float | None = None
    subset_by: str = "first"
    captions: str | None = None
    column: str | None = None
    duplication: str = "none"
    duplicated: int | float = 0.05
    factor: int = 5
    duplication_by: str = "weights"
    conditioning: str = "original"
    transform: tuple[str, ...] = ()
    probability: int | float = 1.0
    resolution: int | None = None
    center_crop: bool = True
    random_flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("--conditioning", self.conditioning, CONDITIONINGS)
        one_of("--duplication", self.duplication, DUPLICATIONS)
        one_of("--duplication-by", self.duplication_by, WAYS)
        one_of("--subset-by", self.subset_by, SUBSETS)
        _within("--repeats", self.repeats, 1, math.inf)
        _within("--base-ratio", self.base_ratio, 0, math.inf)
        _within("--duplicated", self.duplicated, 0, 1)
        _within("--factor", self.factor, 1, math.inf)
        _within("--probability", self.probability, 0, 1)
        _within("--seed", self.seed, 0, LARGEST_SEED)
        if self.resolution is not None:
            _within("--resolution", self.resolution, 8, 8192)
        self._check_subset()
        self._check_sets()
        chosen_transforms(self.transform)

    def _check_subset(self) -> None:
        if self.subset is not None and not (self.subset >= 1 and self.subset == int(self.subset)):
            _within("--subset", self.subset, 0, 1)
        if self.subset == 0:
            raise UsageError("--subset 0 leaves no picture; give a number from 1 up or a share below 1.")

    def _check_sets(self) -> None:
        if (self.base is None) != (self.base_ratio == 0):
            raise UsageError("--base and --base-ratio go together; give both, or neither.")
        if self.captions is not None and not Path(self.captions).is_file():
            raise UsageError(f"There is no captions file {self.captions}; give a .json, .jsonl or .csv file.")
        if self.duplication == "image" and self.conditioning not in ("original", "instance"):
            why = "draws from all captions anyway" if self.conditioning == "multiple" else "uses none of them"
            with_it = f"--conditioning {self.conditioning} {why}"
            raise UsageError(f"--duplication image draws captions anew, and {with_it}; use --duplication both.")


def chosen_transforms(names: Sequence[str]) -> list[tuple[registry.Method, dict[str, Any]]]:
    """Caption transforms with their parameters, from texts like `random_words:count=2`; raises `UsageError`."""
    found = []
    for text in names:
        name, _, given = text.partition(":")
        method = registry.get("caption", name)
        found.append((method, registry.checked(method, parameters(given.split(",") if given else ()))))
        _try(method, found[-1][1])
    return found


def _try(method: registry.Method, given: dict[str, Any]) -> None:
    """Let a transform refuse its parameters before anything is trained."""
    import random

    method.function("a caption", random.Random(0), **given)


def _within(option: str, value: int | float, low: int | float, high: int | float) -> None:
    if not low <= value <= high or math.isinf(value):
        limits = f"{low} or more" if math.isinf(high) else f"a number from {low} to {high}"
        raise UsageError(f"{option} is {value}; give {limits}.")
