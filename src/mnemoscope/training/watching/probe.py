"""A probe for a training loop of one's own: two lines that say which pictures begin to come back."""

from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope.run.training_rows import WatchedCaption
from mnemoscope.training.data.batches import training_set
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.watching.observing import observed
from mnemoscope.training.watching.options import WatchOptions
from mnemoscope.training.watching.probes import ProbeLook, probes_of
from mnemoscope.training.watching.returning import came_back, judged, reason


class Probe:
    """Called with the step inside any training loop: looks at the pipeline, and says why to stop, or None.

        probe = mnemoscope.Probe(pipe, "pictures/")
        ...
        if step % 100 == 0 and (why := probe(step)): break

    `pipe` holds the networks that are being trained, adapters included, and `data` is what they are trained on: any
    source of pictures with captions. It is looked at once when the probe is made, which is what later looks are
    compared with; no look changes the training, its random states included. `rows` has a row for each probe, detector
    and look, `came_back` the captions that came back at the last one. Options are the fields of
    `mnemoscope.training.watching.options.WatchOptions`. Raises `UsageError` for data without a usable picture.
    """

    def __init__(self, pipe: DiffusionPipeline, data: str | Path, **options: Any) -> None:
        self.pipe, self.options = pipe, WatchOptions(**options)
        self._look = ProbeLook(probes_of(training_set(pipe, DataOptions(str(data))), self.options), self.options)
        self.rows: list[WatchedCaption] = []
        self.came_back: list[str] = []
        self._base: list[WatchedCaption] | None = None
        self._base = self._looked(0, "base")

    def __call__(self, step: int) -> str | None:
        """Look at the pipeline as it is now; the reason to stop in a sentence, or None if training may go on."""
        rows = self._looked(step, f"step {step}")
        assert self._base is not None
        self.came_back = [self._look.probes[k].prompt for k in came_back(rows, self._base)]
        return reason(rows, self._base, self.options)

    def _looked(self, step: int, name: str) -> list[WatchedCaption]:
        with observed(self.pipe) as model:
            found = self._look.look(model, step)
        rows = judged(self._look, found, name, self._base)
        self.rows += rows
        return rows
