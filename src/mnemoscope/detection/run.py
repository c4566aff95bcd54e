"""Detection over a list of prompts: rows, calibration on negatives, summary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnemoscope import registry
from mnemoscope.detection.formats import read_wen
from mnemoscope.detection.precision import dtype_error, measurable, told
from mnemoscope.job.batching import Batch, Pass, content_hash, prompt_run, seeds_of
from mnemoscope.methods import by_name as api
from mnemoscope.methods.thresholds import calibrate, conditions, fixed_threshold, units_of
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.tokens import cut_off, cut_off_summary
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.rows import Row
from mnemoscope.run.run import Run
from mnemoscope.stats import tpr_at_fpr


@dataclass(frozen=True)
class Detection:
    """What to compute for each prompt: a method with its parameters, seeds, and the sampling it looks at."""

    method: str = "noise_norm"
    params: Mapping[str, Any] | None = None
    seed: int = 0
    seeds: int = 1
    num_inference_steps: int = 50
    guidance_scale: float | None = None  # the pipeline's own if None
    companions: tuple[str, ...] = ()  # scores recorded beside it from the same steps, at no further evaluation

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.params or {})

    def conditions(self, model: Denoiser) -> dict[str, Any]:
        """What a threshold of this detection depends on."""
        return conditions(
            model,
            self.method,
            self.parameters,
            seeds=self.seeds,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=model.family.guidance(self.guidance_scale),
        )


def run_detection(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    detection: Detection,
    *,
    negatives: Sequence[Prompt] = (),
    fpr: float = 0.01,
    threshold: str | Path | int | float | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score all prompts into a run and return its summary.

    Negatives, or labels, calibrate the score: AUC, TPR at fixed FPR, and a threshold at `fpr` false alarms; `threshold`
    takes that of an earlier run's summary instead and refuses one made under other conditions, or NUMBER[:UNIT].
    """
    detection = replace(detection, guidance_scale=model.family.guidance(detection.guidance_scale))
    found = registry.detection(detection.method)
    registry.checked(found, detection.parameters, extra=("steps",))
    calibrate([], fpr=fpr)  # an impossible rate is refused before the work, not after it
    seeds_of(detection.seed, detection.seeds)
    roles = [(p, "prompt") for p in prompts] + [(apart(p), "negative") for p in negatives]
    settings = {
        **{k: v for k, v in vars(detection).items() if k != "params"},
        "params": detection.parameters,
        "fpr": fpr,
        "threshold": None if threshold is None else str(threshold),
        "content": content_hash([p.id for p, _ in roles]),
    }
    where = detection.conditions(model)
    fixed = None if threshold is None else fixed_threshold(threshold, where)
    known = {p.id: {"role": role, "label": p.label, "kind": p.kind} for p, role in roles}

    def work(some: list[Prompt]) -> list[Row]:
        return [{**row, **known[row["id"]]} for row in detect_rows(model, some, detection)]

    def finish(run: Run, rows: list[Row]) -> tuple[list[Row], dict[str, Any]]:
        result = calibrate([{**r, **known[r["id"]]} for r in rows], fpr=fpr, threshold=fixed)
        unit, cut = {"units": where["units"]} if "units" in where else {}, cut_off_summary(result.rows)
        notes = [*result.summary["notes"], *cut.pop("notes", [])]
        said = {**result.summary, **unit, **cut, "notes": notes, "conditions": where}
        if measurable(model) and any(r["status"] == "ok" for r in result.rows):
            by_id = {p.id: p for p, _ in roles}
            error = dtype_error(lambda some: work([by_id[r["id"]] for r in some]), model, result.rows)
            said |= {"dtype_error": error, "notes": [*said["notes"], told(error, where["dtype"])]}
        return result.rows, said

    size, whom = Batch.of(model, batch, detection.seeds), [p for p, _ in roles]
    plan = [Pass("detect", work)]
    return prompt_run(
        out, "detect", settings, [model], whom, size, lambda run: plan, finish, overwrite=overwrite, method=found.about
    )


def apart(negative: Prompt) -> Prompt:
    """A negative under an id of its own, should the same text stand among the prompts."""
    return replace(negative, id=f"n-{negative.id}", label=False)


def detect_rows(model: Denoiser, prompts: Sequence[Prompt], detection: Detection) -> list[Row]:
    """One row for each prompt of a batch."""
    seeds = seeds_of(detection.seed, detection.seeds)
    trajectory = Trajectory(
        model,
        [p.text for p in prompts for _ in seeds],
        seeds * len(prompts),
        num_inference_steps=detection.num_inference_steps,
        guidance_scale=detection.guidance_scale,
    )
    found, units = registry.detection(detection.method), units_of(model, detection.method, detection.parameters)
    values, timesteps = _values(trajectory, detection, found.kind)
    extra = {name: api.series(trajectory, name, steps=_steps(detection)) for name in detection.companions}
    rows, cut = [], cut_off(model, [p.text for p in prompts])
    for k, prompt in enumerate(prompts):
        own = slice(k * len(seeds), (k + 1) * len(seeds))
        per_seed = values[:, own].mean(0).tolist()
        score = max(per_seed) if found.over_seeds == "max" else math.fsum(per_seed) / len(per_seed)
        if not all(map(math.isfinite, per_seed)):
            raise ValueError(f"the score is {score}, from {per_seed}")
        row = {
            "id": prompt.id,
            "prompt": prompt.text,
            "seeds": seeds,
            "method": found.name,
            "params": detection.parameters,
            "score": score,
            "per_seed": per_seed,
            **({"units": units} if units else {}),
            "label": prompt.label,
            "kind": prompt.kind,
            "cut_off": cut[k],
            "status": "ok",
        }
        if timesteps:
            row |= {"timesteps": timesteps, "series": values[:, own].T.tolist()}
            row |= {"companions": {n: v[:, own].T.tolist() for n, v in extra.items()}} if extra else {}
        rows.append(row)
    return rows


def _steps(detection: Detection) -> Any:
    return detection.parameters.get("steps", registry.detection(detection.method).steps)


def _values(trajectory: Trajectory, detection: Detection, kind: str) -> tuple[Tensor, list[float]]:
    """Values of each step and sample with their timesteps; a detector has one value a sample and no timesteps."""
    if kind != "score":
        return api.detect(trajectory, detection.method, **detection.parameters).double()[None], []
    values = api.series(trajectory, detection.method, **detection.parameters)
    steps = trajectory.chosen(_steps(detection))
    return values.to("cpu", torch.float64), [float(s.t) for s in steps]


def import_detection(
    file: Path,
    out: Path | str,
    *,
    negatives: Path | None = None,
    steps: tuple[int, int | None] = (0, None),
    fpr: float = 0.01,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a run of Wen et al.'s result files, calibrated on their negatives, and return its summary."""
    calibrate([], fpr=fpr)
    found = registry.get("score", "noise_norm")
    about = {"name": found.name, "summary": found.summary, "paper": found.paper, "cost": "imported"}
    rows = [{**r, "role": "prompt"} for r in read_wen(file, steps=steps)]
    if negatives:
        others = read_wen(negatives, label=False, steps=steps)
        rows += [{**r, "id": f"n-{r['id']}", "role": "negative"} for r in others]
    settings = {"prompts": str(file), "negatives": str(negatives) if negatives else None, "steps": steps, "fpr": fpr}
    with Run(out, "detect", settings, overwrite=overwrite, method=about) as run:
        result = calibrate(rows, fpr=fpr)
        run.replace_rows(result.rows)
        return run.finish(**result.summary, tpr_below_1_fpr=_strict_rate(result.rows))


def _strict_rate(rows: list[Row]) -> float | None:
    """TPR at strictly less than 1 % false alarms, as Wen et al. count it; None for fewer than 100 negatives."""
    groups = [
        np.array([r["score"] for r in rows if r["role"] == role and r["status"] == "ok"])
        for role in ("prompt", "negative")
    ]
    return tpr_at_fpr(groups[0], groups[1], 0.01, strict=True) if groups[0].size and groups[1].size >= 100 else None
