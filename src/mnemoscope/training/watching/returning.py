"""Which pictures a model that is being trained begins to give back, and whether that is reason to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnemoscope.run.probe_rows import OWN
from mnemoscope.run.training_rows import ProbeRow, WatchedCaption
from mnemoscope.training.watching.options import WatchOptions
from mnemoscope.training.watching.probes import ProbeLook
from mnemoscope.training.watching.warning import warning


@dataclass(frozen=True)
class ReturnLevel:
    """Above what a probe's value a picture comes back: a similarity to it, or a score that no caption had before."""

    value: str
    above: float | None

    @classmethod
    def of(cls, base: Sequence[WatchedCaption], threshold: float | None) -> "ReturnLevel":
        """From the rows of the untrained model, and the similarity of a copy where images are compared.

        Without images it is the highest score of the first detector that any probe had before the training: if a
        caption's score were not changed by the training, it would pass that with a chance of 1 in n + 1.
        """
        if threshold is not None:
            return cls(OWN, threshold)
        first = next((row["detector"] for row in base if row["detector"]), "")
        scores = [row["score"] for row in base if row["detector"] == first and row["score"] is not None]
        return cls(first, max(scores, default=None))

    def passed(self, row: WatchedCaption) -> bool | None:
        """Whether a row's value is above the level; None for a row of another detector, or without a value."""
        value = None
        if self.value == OWN:
            value = row["own_similarity"]
        elif row["detector"] == self.value:
            value = row["score"]
        return None if value is None or self.above is None else value > self.above


def judged(
    look: ProbeLook, found: Sequence[ProbeRow], checkpoint: str, base: Sequence[WatchedCaption] | None
) -> list[WatchedCaption]:
    """Rows of a look with the place of their probe, its picture, and whether it comes back.

    `base` has the rows of the untrained model; None where these are they.
    """
    each, threshold = max(1, len(look.options.probe_detectors)), look.features.threshold if look.features else None
    files = [next(iter(probe.files), None) for probe in look.probes]
    places = [place // each for place in range(len(found))]
    rows: list[WatchedCaption] = [
        {"checkpoint": checkpoint, "probe": k, "picture": files[k], **row, "returning": None}
        for k, row in zip(places, found, strict=True)
    ]
    level = ReturnLevel.of(rows if base is None else base, threshold)
    return [{**row, "returning": level.passed(row)} for row in rows]


def came_back(rows: Sequence[WatchedCaption], base: Sequence[WatchedCaption]) -> list[int]:
    """Probes that come back in the rows of a checkpoint and did not in those of the untrained model."""
    known = {row["probe"] for row in base if row["returning"]}
    return sorted({row["probe"] for row in rows if row["returning"]} - known)


def reason(rows: Sequence[WatchedCaption], base: Sequence[WatchedCaption], options: WatchOptions) -> str | None:
    """Why the training should stop after these rows of one checkpoint, in a sentence; None if it may go on."""
    able = {row["probe"] for row in rows if row["returning"] is not None}
    back = came_back(rows, base)
    if able and len(back) > options.stop_share * len(able):
        share = f"{len(back)} of {len(able)} pictures come back, more than {options.stop_share:.0%}"
        return f"Stop at {rows[0]['checkpoint']}: {share}."
    said = warning([{**row, "step": row["checkpoint"]} for row in rows], options)
    return said.replace("Stopped at step", "Stop at") if said else None
