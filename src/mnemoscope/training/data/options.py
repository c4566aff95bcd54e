"""What a model is trained on: which pictures, how often each, under which captions, at which size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.run.options import REQUIRED, check, option
from mnemoscope.run.settings import parameters
from mnemoscope.training.options import DATA, RUNNING

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

    data: str = option(REQUIRED, "Images with captions: folder, zip, tars, parquet, jpg+txt pairs, hub:.", DATA)
    base: str | None = option(None, "A further set, mixed with the data.", DATA)
    base_ratio: int | float = option(0, "Pictures of the base set for each of the data's.", DATA, least=0)
    repeats: int = option(1, "How often the data is listed.", DATA, least=1)
    subset: int | float | None = option(None, "The first N pictures, or a share below 1.", DATA)
    subset_by: str = option("first", "first, or random (as many of each class).", DATA, known=SUBSETS)
    captions: str | None = option(None, "A further file of captions of the data.", DATA)
    column: str | None = option(None, "Column of the caption, where its name is not a usual one.", DATA)
    duplication: str = option("none", "none, both (image and caption) or image.", DATA, known=DUPLICATIONS)
    duplicated: int | float = option(0.05, "Share of the pictures that is duplicated.", DATA, least=0, most=1)
    factor: int = option(5, "How many times as often those are shown.", DATA, least=1)
    duplication_by: str = option("weights", "weights, or repeat for literal copies.", DATA, known=WAYS)
    conditioning: str = option(
        "original", "original, instance, multiple, nolevel, class or random captions.", DATA, known=CONDITIONINGS
    )
    transform: tuple[str, ...] = option((), "A caption transform, name:count=2; repeat it.", DATA)
    probability: int | float = option(1.0, "How likely a transform is at each view.", DATA, least=0, most=1)
    resolution: int | None = option(None, "Pixels of a side; the model's own if not given.", DATA, least=8, most=8192)
    center_crop: bool = option(True, "Crop in the middle, or anywhere.", DATA, "--center-crop/--random-crop")
    random_flip: bool = option(False, "Flip half of the views.", DATA, "--random-flip/--no-flip")
    seed: int = option(0, "Of all that is drawn at random.", RUNNING, least=0, most=LARGEST_SEED)

    def __post_init__(self) -> None:
        check(self)
        self._check_subset()
        self._check_sets()
        chosen_transforms(self.transform)

    def _check_subset(self) -> None:
        if self.subset is not None and not (0 <= self.subset <= 1 or self.subset == math.floor(self.subset) > 1):
            raise UsageError(f"--subset {self.subset} was given; give a whole number, or a share from 0 to 1.")
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


def chosen_transforms(names: Sequence[str]) -> list[tuple[registry.Method, registry.Parameters]]:
    """Caption transforms with their parameters, from texts like `random_words:count=2`; raises `UsageError`."""
    transforms = []
    for text in names:
        name, _, given = text.partition(":")
        method = registry.get("caption", name)
        transforms.append((method, registry.checked(method, parameters(given.split(",") if given else ()))))
        _try(method, transforms[-1][1])
    return transforms


def _try(method: registry.Method, given: registry.Parameters) -> None:
    """Let a transform refuse its parameters before anything is trained."""
    import random

    method.function("a caption", random.Random(0), **given)
