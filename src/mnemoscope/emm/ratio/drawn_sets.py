"""Images drawn from the snapshots of a training from scratch, when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.generated_sets import Generated
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json


@dataclass(frozen=True)
class Drawing:
    """How images are drawn: how many, from which seed on, in how many steps, by which average of the weights."""

    samples: int = 1000
    seed: int = 0
    num_inference_steps: int = 18
    ema: str | None = None
    batch_size: int = 256
    device: str = "cpu"


@dataclass(frozen=True)
class Drawn:
    """Images of one snapshot, each from a seed of its own."""

    name: str
    run: Path
    step: int
    drawing: Drawing

    def __len__(self) -> int:
        return self.drawing.samples

    def take(self, places: Sequence[int]) -> Images:
        from mnemoscope.emm.sampling.drawing import sample_images

        asked = self.drawing
        network = _network(self.run, self.step, asked.ema, asked.device)
        seeds = [asked.seed + place for place in places]
        pixels, _ = sample_images(
            network,
            seeds,
            shape=(network.channels, network.resolution, network.resolution),
            batch_size=asked.batch_size,
            device=asked.device,
            num_inference_steps=asked.num_inference_steps,
        )
        return Images(pixels, None, tuple(f"{self.name}:seed-{seed}" for seed in seeds))

    def again(self) -> "Drawn":
        """The images of the next seeds."""
        later = replace(self.drawing, seed=self.drawing.seed + self.drawing.samples)
        return replace(self, name=f"{self.name}-again", drawing=later)


@lru_cache(maxsize=1)
def _network(run: Path, step: int, ema: str | None, device: str) -> Any:
    from mnemoscope.emm.training.snapshots import read_network

    return read_network(run, snapshot=step, ema=ema).to(device)


def is_training(source: str) -> bool:
    """Whether a source is a run of `emm train`."""
    run = Path(source) / "run.json"
    return run.is_file() and read_json(run).get("command") == "emm-train"


def drawn_sets(source: str, drawing: Drawing) -> list[Generated]:
    """A set of images for each snapshot of a run of `emm train`, the first one first.

    Raises `UsageError` for a run without snapshots and for fewer than one sample.
    """
    from mnemoscope.emm.training.snapshots import Snapshots

    if drawing.samples < 1:
        raise UsageError(f"{drawing.samples} samples were asked for; ask for at least 1.")
    steps = Snapshots(Path(source)).steps()
    if not steps:
        raise UsageError(f"{source} has no snapshot yet; let its training go on.")
    return [Drawn(f"step-{step:06d}", Path(source), step, drawing) for step in steps]
