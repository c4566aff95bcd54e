"""Which images `emm optimum` is the optimum of."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemoscope.emm.data.images import Images


SOURCES = "Images: digits, folder, zip, npz, CIFAR ..., hub."


def _of(default: Any, text: str, panel: str = "Data") -> Any:
    return field(default=default, metadata={"help": text, "panel": panel})


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
        from mnemoscope.emm.data.sources import source_images
        from mnemoscope.emm.data.subset import make_subset

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


@dataclass(frozen=True)
class Running:
    """Which images are drawn of the optimum, and how the work is done."""

    images: int | None = _of(None, "Images to draw, from seed 0 on; 64 without --seeds.", "Sampling")
    seeds: str | None = _of(None, "The seeds of the images: 0-63,100.", "Sampling")
    label: int | None = _of(None, "Draw only images of this label.", "Sampling")
    batch_size: int = _of(64, "Images drawn at a time.", "Run")
    gallery: int = _of(24, "Images shown beside their nearest training images.", "Sampling")
    runner: str = _of("local", "local, or ray for the machines of a Ray cluster.", "Run")
    gpus: int | float = _of(0, "Share of a GPU for each worker of Ray.", "Run")
