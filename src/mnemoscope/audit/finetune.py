"""The audit of a fine-tune: its training captions, and captions that it has not seen, with and without it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from mnemoscope.audit.run import Detected, Examination, Made, examined, finished, thinned
from mnemoscope.audit.side_by_side import BASE, EXTRAPOLATED, FINETUNE, REPAIRED, TUNED, compared
from mnemoscope.audit.training_set import Controls, TrainingPictures
from mnemoscope.errors import UsageError
from mnemoscope.generation.run import run_generation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.training.extrapolation import Reference, extrapolated, require_alike


@dataclass(frozen=True)
class Beyond:
    """How far beyond the fine-tune to go, away from which prediction of its base; see `extrapolated`."""

    weight: float
    reference: Reference = "guided"

    @classmethod
    def of(cls, text: str) -> "Beyond":
        """WEIGHT or WEIGHT:REFERENCE; raises `UsageError`."""
        number, _, name = text.partition(":")
        reference = next((each for each in get_args(Reference) if each == (name or "guided")), None)
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if reference is None or not 1 < weight < math.inf:
            raise UsageError(f"--extrapolate {text} was given; give WEIGHT or WEIGHT:uncond, :cond or :guided, as 3.")
        return cls(weight, reference)


@dataclass(frozen=True)
class Finetune:
    """A fine-tuned model, the one that it was fine-tuned from, what a repair made of it, and how far to go beyond it.

    Raises `UsageError` for a base with other latents or noise levels.
    """

    tuned: Denoiser
    base: Denoiser
    repaired: Denoiser | None = None
    beyond: Beyond | None = None

    def __post_init__(self) -> None:
        for model in (self.tuned, *([self.repaired] if self.repaired else [])):
            require_alike(model, self.base)


def run_finetune_audit(
    models: Finetune, data: TrainingPictures, controls: Controls, out: Path, asked: Examination
) -> int:
    """Audit a fine-tune into a folder, and its base into `base` there; returns how many prompts or images failed.

    Every training caption is scored, and the images of at most `most` of them are drawn, and of as many controls, from
    the same seeds with each model. Each model's threshold is set on its own scores of the controls. What differs stands
    in the run `finetune`, a row for each training picture. Only the fine-tune is explained and mitigated.
    """
    settings: Json = {"most": asked.most, "controls_made": controls.made}
    settings |= {"extrapolate": asdict(models.beyond)} if models.beyond else {}
    if asked.copying is None:
        raise UsageError("The audit of a fine-tune compares images with its training pictures; give what by.")
    asked = replace(asked, copying=replace(asked.copying, cache=out / "features"))
    choose = partial(to_draw, data.prompts, controls.drawn, asked.most)
    with Run(out, "audit", settings, overwrite=asked.overwrite) as run:
        made: Made = {}
        for name, model in ((BASE, models.base), (REPAIRED, models.repaired)):
            if model is not None:
                plain = replace(asked, explanation=None, mitigation=None)
                with Run(out / name, "audit", settings, overwrite=asked.overwrite) as part:
                    found = examined(model, data.prompts, out / name, plain, negatives=controls.prompts, drawn=choose)
                    made[name] = finished(part, found)
        made |= examined(models.tuned, data.prompts, out, asked, negatives=controls.prompts, drawn=choose)
        if models.beyond:
            made[EXTRAPOLATED] = drawn_beyond(models, models.beyond, data, out / EXTRAPOLATED, asked)
        arms = {BASE: out / BASE, TUNED: out}
        arms |= {name: out / name for name in (REPAIRED, EXTRAPOLATED) if name in made}
        made[FINETUNE] = compared(arms, data, controls, models.tuned, out / FINETUNE, asked)
        return int(finished(run, made)["failed"])


def to_draw(
    training: Sequence[Prompt], controls: Sequence[Prompt], most: int, rows: Detected
) -> tuple[list[Prompt], list[Prompt]]:
    """Training captions that are flagged (or might be, where none could be), and the others with as many controls."""
    chosen = [prompt for prompt in thinned(training, most) if prompt.id in rows]
    suspects = [prompt for prompt in chosen if rows[prompt.id]["flagged"] is not False]
    calm = [prompt for prompt in chosen if prompt not in suspects]
    return suspects, [*calm, *(p for p in thinned(controls, len(thinned(training, most))) if p.id in rows)]


def drawn_beyond(models: Finetune, beyond: Beyond, data: TrainingPictures, out: Path, asked: Examination) -> Json:
    """Images of the training captions drawn beyond the fine-tune, and what of them is copied; the audit's summary."""
    assert asked.copying is not None
    how: Json = {"batch": asked.batch, "overwrite": asked.overwrite, "references": asked.references}
    prompts = thinned(data.prompts, asked.most)
    with Run(out, "audit", {"extrapolate": asdict(beyond)}, overwrite=asked.overwrite) as run:
        with extrapolated(models.tuned, models.base, weight=beyond.weight, reference=beyond.reference):
            made = {"generate": run_generation(models.tuned, prompts, out / "generate", asked.generation, **how)}
        made["measure"] = asked.copying.run(out / "generate", out / "measure", overwrite=asked.overwrite)
        return finished(run, made)
