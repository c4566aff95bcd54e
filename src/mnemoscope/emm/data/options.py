"""Which images are trained on, as a command or a sweep is given it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mnemoscope.emm.data.modes import LabelMode
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.emm.data.images import Images


def _of(default: Any, text: str, *flags: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, "panel": "Data", "flags": flags, **more})


@dataclass(frozen=True)
class SetOptions:
    """Where the training images come from, and what is made of them; options of `make_subset` but for n and seed.

    `alpha` is the share of images from `mix`, a second source. A source is anything that `read_images` takes, or
    `patches` for patches of photographs.
    """

    source: str = field(metadata={"internal": True})
    classes: int | tuple[int, ...] | None = _of(None, "The first C classes, or those listed: 3,5,8.", commas=True)
    mix: str | None = _of(None, "A second source of images.")
    alpha: int | float = _of(0, "Share of images from the second source.")
    label_mode: LabelMode = _of("none", "none, true, random, random-iid, unique, constant, permuted.")
    label_classes: int | None = _of(None, "Number of random labels.")
    resolution: int | None = _of(None, "Pixels of a side, by Lanczos; the images' own if none.")
    balanced: bool = _of(True, "As many images of each class.", "--balanced/--unbalanced")
    dedupe: bool = _of(False, "Leave out exact copies first.")

    def __post_init__(self) -> None:
        if self.alpha and self.mix is None:
            raise UsageError(f"alpha is {self.alpha} and there is no mix; give a second source.")

    def images(self, n: int | None, seed: int | None) -> "Images":
        """The training set of a size; raises `UsageError` as `read_images` and `make_subset` do."""
        from mnemoscope.emm.data.sources import source_images
        from mnemoscope.emm.data.subset import make_subset

        other = (source_images(self.mix), self.alpha) if self.mix is not None and self.alpha else None
        return make_subset(
            source_images(self.source),
            n,
            classes=self.classes,
            mix=other,
            label_mode=self.label_mode,
            label_classes=self.label_classes,
            resolution=self.resolution,
            seed=seed,
            balanced=self.balanced,
            dedupe=self.dedupe,
        )


@dataclass(frozen=True)
class SubsetOptions(SetOptions):
    """A set of a size: so many images, and which ones."""

    subset_size: int | None = _of(None, "Images to train on, as many of each class.")
    subset_seed: int = _of(0, "Which images these are.")
