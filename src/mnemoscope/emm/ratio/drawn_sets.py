"""Images drawn from the snapshots of a training from scratch, or from a file of weights, when they are asked for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.generated_sets import Generated
from mnemoscope.emm.sampling.crew import Crew
from mnemoscope.emm.sampling.options import Sampling, read_seeds, written
from mnemoscope.emm.training.sources import SUFFIX, Weights
from mnemoscope.errors import UsageError

FREE = ("batch_size", "device")  # what changes no image


def _of(default: Any, text: str, panel: str = "Drawing") -> Any:
    return field(default=default, metadata={"help": text, "panel": panel})


@dataclass(frozen=True)
class Drawing:
    """Which images are drawn of each snapshot, how, by which weights, and how many at a time."""

    samples: int = _of(1000, "Images drawn from each snapshot of a training.")
    seed: int = _of(0, "Seed of the first image; the next ones follow.")
    seeds: str | None = _of(None, "The seeds of the images, in place of both: 0-499,1000.")
    label: int | None = _of(None, "Draw only images of this label.")
    batch_size: int = _of(256, "Images that a process draws at a time.")
    sampling: Sampling = field(default=Sampling(), metadata={"internal": True})
    weights: Weights = field(default=Weights(), metadata={"internal": True})
    device: str = field(default="cpu", metadata={"internal": True})

    def listed(self) -> list[int]:
        """The seeds; raises `UsageError` for fewer than one."""
        if self.samples < 1 or self.batch_size < 1:
            raise UsageError(f"{self.samples} samples were asked for, {self.batch_size} at a time; ask for at least 1.")
        return list(range(self.seed, self.seed + self.samples)) if self.seeds is None else read_seeds(self.seeds)

    def later(self) -> "Drawing":
        """As many images of the seeds behind."""
        seeds = self.listed()
        return replace(self, seeds=None, seed=max(seeds) + 1, samples=len(seeds))

    def record(self) -> dict[str, Any]:
        """What the images depend on, as the settings of a run."""
        said = {name: value for name, value in asdict(self).items() if name not in ("sampling", "weights", *FREE)}
        return said | asdict(self.sampling) | asdict(self.weights) | {"seeds": written(self.listed())}


@dataclass
class Drawn:
    """Images of one snapshot, each from a seed of its own; `evaluations` are those of the network so far."""

    name: str
    source: tuple[str, str | int]
    drawing: Drawing
    crew: Crew
    evaluations: int = 0

    def __len__(self) -> int:
        return len(self.drawing.listed())

    def take(self, places: Sequence[int]) -> Images:
        listed = self.drawing.listed()
        seeds = [listed[place] for place in places]
        share = self.crew(self.source, seeds)
        self.evaluations += share.evaluations
        return Images(share.pixels, None, tuple(f"{self.name}:seed-{seed}" for seed in seeds))

    def again(self) -> "Drawn":
        """The images of the next seeds."""
        return replace(self, name=f"{self.name}-again", drawing=self.drawing.later(), evaluations=0)


def drawn_sets(source: str, drawing: Drawing, crew: Crew) -> list[Generated]:
    """A set of images for each snapshot of a run of `emm train`, the first one first, or one for a file of weights.

    Raises `UsageError` for a run without snapshots and for fewer than one sample.
    """
    from mnemoscope.emm.training.snapshots import Snapshots

    drawing.listed()
    if source.endswith(SUFFIX):
        return [Drawn(Path(source).stem, (source, "last"), drawing, crew)]
    steps = Snapshots(Path(source)).steps()
    if not steps:
        raise UsageError(f"{source} has no snapshot yet; let its training go on.")
    return [Drawn(f"step-{step:06d}", (source, step), drawing, crew) for step in steps]
