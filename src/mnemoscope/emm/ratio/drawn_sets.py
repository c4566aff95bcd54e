"""Images drawn from the snapshots of a training from scratch, or from a file of weights, when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.generated_sets import GeneratedSet
from mnemoscope.emm.ratio.options import SnapshotDrawing
from mnemoscope.emm.sampling.crew import Crew
from mnemoscope.emm.training.sources import SUFFIX
from mnemoscope.errors import UsageError


@dataclass
class SnapshotImages:
    """Images of one snapshot, each from a seed of its own; `evaluations` are those of the network so far."""

    name: str
    source: tuple[str, str | int]
    drawing: SnapshotDrawing
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

    def again(self) -> "SnapshotImages":
        """The images of the next seeds."""
        return replace(self, name=f"{self.name}-again", drawing=self.drawing.later(), evaluations=0)


def drawn_sets(source: str, drawing: SnapshotDrawing, crew: Crew) -> list[GeneratedSet]:
    """A set of images for each snapshot of a run of `emm train`, the first one first, or one for a file of weights.

    Raises `UsageError` for a run without snapshots and for fewer than one sample.
    """
    from mnemoscope.emm.training.snapshots import Snapshots

    drawing.listed()
    if source.endswith(SUFFIX):
        return [SnapshotImages(Path(source).stem, (source, "last"), drawing, crew)]
    steps = Snapshots(Path(source)).steps()
    if not steps:
        raise UsageError(f"{source} has no snapshot yet; let its training go on.")
    return [SnapshotImages(f"step-{step:06d}", (source, step), drawing, crew) for step in steps]
