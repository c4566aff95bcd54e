"""What `emm ratio` compares, by what, and which images it draws of a network."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mnemoscope.emm.sampling.options import Sampling, read_seeds, written
from mnemoscope.emm.training.sources import Weights
from mnemoscope.errors import UsageError
from mnemoscope.run.settings import Settings

IMAGES, COMPARISON, DRAWING, RUNNING = "Input", "Comparison", "Drawn images", "Run"
FREE = ("batch_size", "device")  # what changes no image


def _of(default: Any, panel: str, text: str) -> Any:
    return field(default=default, metadata={"help": text, "panel": panel})


@dataclass(frozen=True)
class AskedRatio:
    """The sources that are compared, by their names, and how they are read."""

    generated: str = field(default="", metadata={"internal": True})
    references: str | None = _of(None, IMAGES, "The training images, read alike; those of a run of emm train.")
    held_out: str | None = _of(None, IMAGES, "Images the model never saw, as a control.")
    pool: str | None = _of(None, IMAGES, "Images whose usual distance is the unit of the second criterion.")
    resolution: int | None = _of(None, IMAGES, "Cut and resize all images to it.")
    limit: int | None = _of(None, IMAGES, "Take only the first N generated images.")
    snapshots: bool = _of(False, IMAGES, "Each folder or file in it is a snapshot.")

    def __post_init__(self) -> None:
        for name in ("resolution", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name} {value} was given; give at least 1.")


@dataclass(frozen=True)
class RatioOptions:
    """When an image is memorized, the features that images are compared by, how many are shown beside references."""

    threshold: int | float = _of(1 / 3, COMPARISON, "Nearest over second distance below which it is a copy.")
    features: str = _of("pixels", COMPARISON, "pixels, or features: sscd, clip, dino, network.")
    gallery: int = _of(24, COMPARISON, "Images shown beside their nearest references.")

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.gallery < 0:
            raise UsageError("--threshold is above 0 and up to 1, and --gallery 0 or more; give such numbers.")


@dataclass(frozen=True)
class SnapshotDrawing:
    """Which images are drawn of each snapshot, how, by which weights, and how many at a time."""

    samples: int = _of(1000, DRAWING, "Images drawn from each snapshot of a training.")
    seed: int = _of(0, DRAWING, "Seed of the first image; the next ones follow.")
    seeds: str | None = _of(None, DRAWING, "The seeds of the images, in place of both: 0-499,1000.")
    label: int | None = _of(None, DRAWING, "Draw only images of this label.")
    batch_size: int = _of(256, RUNNING, "Images that a process draws at a time.")
    sampling: Sampling = field(default=Sampling(), metadata={"internal": True})
    weights: Weights = field(default=Weights(), metadata={"internal": True})
    device: str = field(default="cpu", metadata={"internal": True})

    def listed(self) -> list[int]:
        """The seeds; raises `UsageError` for fewer than one."""
        if self.samples < 1 or self.batch_size < 1:
            raise UsageError(f"{self.samples} samples were asked for, {self.batch_size} at a time; ask for at least 1.")
        return list(range(self.seed, self.seed + self.samples)) if self.seeds is None else read_seeds(self.seeds)

    def later(self) -> "SnapshotDrawing":
        """As many images of the seeds behind."""
        seeds = self.listed()
        return replace(self, seeds=None, seed=max(seeds) + 1, samples=len(seeds))

    def record(self) -> Settings:
        """What the images depend on, as the settings of a run."""
        settings = {name: value for name, value in asdict(self).items() if name not in ("sampling", "weights", *FREE)}
        return settings | asdict(self.sampling) | asdict(self.weights) | {"seeds": written(self.listed())}
