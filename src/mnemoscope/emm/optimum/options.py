"""Which images `emm optimum` is the optimum of."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemoscope.emm.data.images import Images


SOURCES = "Images: digits, folder, zip, npz, CIFAR ..., hub."


def _of(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "panel": "Data"})


@dataclass(frozen=True)
class Subset:
    """The training images: a source, how many of them, at which size, and with which labels."""

    data: str = field(
        metadata={
            "help": "Images: digits, folder, zip, npz, CIFAR ..., hub.",
            "panel": "Data",
            "flags": ("--data", "--network"),
        }
    )
    subset_size: int | None = _of(None, "As many of the images, in turn from each class.")
    subset_seed: int = _of(0, "Which images these are.")
    label_mode: str = _of("none", "none, true, random, random-iid, unique, constant, permuted.")
    label_classes: int | None = _of(None, "Number of random labels.")
    resolution: int | None = _of(None, "Pixels of a side, by Lanczos; the images' own if none.")
    dedupe: bool = _of(False, "Leave out exact copies first.")

    def images(self) -> "Images":
        """The images; those of a file of arrays stay in it if none are left out, and are read when they are needed."""
        from mnemoscope.emm.data.readers import read_images
        from mnemoscope.emm.data.subset import make_subset
        from mnemoscope.emm.sweeps.level import source_images

        if self.data == "patches":
            images = source_images(self.data)
        else:
            images = read_images(self.data, resolution=self.resolution)
        if self == Subset(self.data, resolution=self.resolution, subset_seed=self.subset_seed):
            return images.unlabelled()
        return make_subset(
            images,
            self.subset_size,
            label_mode=self.label_mode,
            label_classes=self.label_classes,
            resolution=self.resolution,
            seed=self.subset_seed,
            dedupe=self.dedupe,
        )
