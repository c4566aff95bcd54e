"""What follows from the scores of all prompts: flags, calibration, and what the figures have to be read with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemoscope.detection.precision import dtype_error, measurable, told
from mnemoscope.job.seeds import content_of
from mnemoscope.methods.thresholds import calibrate
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.tokens import cut_off_summary
from mnemoscope.prompts.prompt import Prompt, Prompts
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import KnownRole, Scored, ScoredRow


@dataclass(frozen=True)
class AskedPrompts:
    """The prompts under test and the ordinary ones beside them, in that order."""

    prompts: Sequence[Prompt]
    negatives: Sequence[Prompt] = ()

    @property
    def all(self) -> Prompts:
        """All of them, the negatives apart, with the rows of both that hold no caption."""
        return Prompts.of([*self.prompts, *map(apart, self.negatives)], self.prompts, self.negatives)

    @property
    def known(self) -> dict[str, KnownRole]:
        """By id what a prompt is: its role, label and kind."""
        roles = ["prompt"] * len(self.prompts) + ["negative"] * len(self.negatives)
        return {p.id: {"role": role, "label": p.label, "kind": p.kind} for p, role in zip(self.all, roles, strict=True)}

    @property
    def content(self) -> str:
        """What a run of them is recognised by."""
        return content_of(self.all)


def apart(negative: Prompt) -> Prompt:
    """A negative under an id of its own, should the same text stand among the prompts."""
    return replace(negative, id=f"n-{negative.id}", label=False)


def concluded(
    model: Denoiser,
    rows: Sequence[Scored],
    conditions: Mapping[str, Any],
    again: Callable[[list[Scored]], Sequence[ScoredRow]],
    *,
    fpr: float,
    threshold: float | None,
) -> tuple[list[Scored], Json]:
    """Rows of one method with their flags, and its summary; `again` scores some of the rows anew."""
    result = calibrate(rows, fpr=fpr, threshold=threshold)
    unit, cut = ({"units": conditions["units"]} if "units" in conditions else {}), cut_off_summary(result.rows)
    notes = [*result.summary["notes"], *cut.pop("notes", [])]
    said = {**result.summary, **unit, **cut, "notes": notes, "conditions": conditions}
    if measurable(model) and any(r["status"] == "ok" for r in result.rows):
        error = dtype_error(again, model, result.rows)
        said |= {"dtype_error": error, "notes": [*said["notes"], told(error, conditions["dtype"])]}
    return result.rows, said
