"""Detection over a list of prompts: rows, calibration on negatives, summary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mnemoscope import registry
from mnemoscope.detection.concluding import AskedPrompts, concluded
from mnemoscope.detection.formats import read_wen
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.detection.sequential import is_sequential, run_sequential
from mnemoscope.detection.several import named, run_detections
from mnemoscope.errors import UsageError
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import samples
from mnemoscope.methods.thresholds import calibrate, fixed_threshold
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow, KnownRole
from mnemoscope.run.run import Run
from mnemoscope.stats import tpr_at_fpr


def run_detection(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    detection: Detection | Sequence[Detection],
    *,
    negatives: Sequence[Prompt] = (),
    fpr: float = 0.01,
    threshold: str | Path | int | float | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Score all prompts into a run and return its summary.

    Negatives, or labels, calibrate the score: AUC, TPR at fixed FPR, and a threshold at `fpr` false alarms; `threshold`
    takes that of an earlier run's summary instead and refuses one made under other conditions, or NUMBER[:UNIT].
    One by `sequential` takes further seeds only of prompts near the threshold, and keeps its looks in `cells`.
    Several detections share the sampling: each method has its rows and, under `methods`, its summary, and the network
    is evaluated as often as the most demanding of them needs, and where one looks beside the sampling.
    """
    listed = [detection] if isinstance(detection, Detection) else list(detection)
    settled = [replace(d, guidance_scale=model.family.guidance(d.guidance_scale)) for d in listed]
    by_name, asked = named(settled), AskedPrompts(prompts, negatives)
    if any(map(is_sequential, settled)):
        if len(settled) > 1:
            raise UsageError("sequential chooses seeds by its own values; give it alone, in a run of its own.")
        run = partial(run_sequential, _run_one, model, asked, out, settled[0])
    elif len(by_name) > 1:
        run = partial(run_detections, model, asked, out, by_name)
    else:
        run = partial(_run_one, model, asked, out, settled[0])
    return run(fpr=fpr, threshold=threshold, batch=batch, overwrite=overwrite)


def _run_one(
    model: Denoiser,
    asked: AskedPrompts,
    out: Path | str,
    detection: Detection,
    *,
    fpr: float,
    threshold: str | Path | int | float | None,
    batch: int | str,
    overwrite: bool,
) -> Json:
    found = detection.checked()
    calibrate([], fpr=fpr)  # an impossible rate is refused before the work, not after it
    samples(asked.all, detection.seed, detection.seeds)
    settings = {
        **{k: v for k, v in vars(detection).items() if k != "params"},
        "params": detection.parameters,
        "fpr": fpr,
        "threshold": None if threshold is None else str(threshold),
        "content": asked.content,
    }
    where, known = detection.conditions(model), asked.known
    fixed = None if threshold is None else fixed_threshold(threshold, where)
    by_id = {p.id: p for p in asked.all}

    work = partial(_known_rows, model, detection, known)

    def finish(run: Run, rows: list[DetectRow]) -> tuple[list[DetectRow], Json]:
        def again(some: list[DetectRow]) -> list[DetectRow]:
            return work([by_id[r["id"]] for r in some])

        own: list[DetectRow] = [{**r, **known[r["id"]]} for r in rows]
        return concluded(model, own, where, again, fpr=fpr, threshold=fixed)

    size, plan = Batch.of(model, batch, detection.seeds), [Pass("detect", work)]
    run = partial(prompt_run, out, "detect", DetectRow, settings, [model], asked.all, size, overwrite=overwrite)
    return run(lambda run: plan, finish, method=found.about)


def _known_rows(
    model: Denoiser, detection: Detection, known: Mapping[str, KnownRole], some: list[Prompt]
) -> list[DetectRow]:
    return [{**row, **known[row["id"]]} for row in detect_rows(model, some, detection)]


def import_detection(
    file: Path,
    out: Path | str,
    *,
    negatives: Path | None = None,
    steps: tuple[int, int | None] = (0, None),
    fpr: float = 0.01,
    overwrite: bool = False,
) -> Json:
    """Make a run of Wen et al.'s result files, calibrated on their negatives, and return its summary."""
    calibrate([], fpr=fpr)
    method = registry.get("score", "noise_norm")
    about = {"name": method.name, "summary": method.summary, "paper": method.paper, "cost": "imported"}
    rows: list[DetectRow] = [{**r, "role": "prompt"} for r in read_wen(file, steps=steps)]
    if negatives:
        others = read_wen(negatives, label=False, steps=steps)
        rows += [{**r, "id": f"n-{r['id']}", "role": "negative"} for r in others]
    settings = {"prompts": str(file), "negatives": str(negatives) if negatives else None, "steps": steps, "fpr": fpr}
    with Run(out, "detect", settings, overwrite=overwrite, method=about) as run:
        result = calibrate(rows, fpr=fpr)
        run.replace_rows(result.rows)
        return run.finish(**result.summary, tpr_below_1_fpr=_strict_rate(result.rows))


def _strict_rate(rows: list[DetectRow]) -> float | None:
    """TPR at strictly less than 1 % false alarms, as Wen et al. count it; None for fewer than 100 negatives."""
    groups = [
        np.array([r["score"] for r in rows if r["role"] == role and r["status"] == "ok"])
        for role in ("prompt", "negative")
    ]
    return tpr_at_fpr(groups[0], groups[1], 0.01, strict=True) if groups[0].size and groups[1].size >= 100 else None
