"""Detection that looks at further seeds only of prompts near the threshold, and spends no more than it is given."""

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.detection.concluding import AskedPrompts
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.detection.seed_by_seed import Looks
from mnemoscope.detection.stopping import NAME, Spending, StopRule, looked_at, pilots, stored_rule
from mnemoscope.methods.thresholds import GIVEN, calibrate
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.tokens import cut_off_summary
from mnemoscope.prompts.prompt import Prompt, as_prompts, left_out
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow, KnownRole
from mnemoscope.run.run import Run

FULL = "No threshold could be set, so that nothing could stop early: every prompt was looked at with as many seeds."
Job = Callable[..., Json]


def is_sequential(detection: Detection) -> bool:
    """Whether a detection is by the method that this job is of."""
    return registry.detection(detection.method).name == NAME


def run_sequential(
    job: Job,
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
    """Score all prompts into a run, each with as many seeds as it needs, and return the summary.

    `job` detects by one method into a run; each look is one under `cells`, and goes on where it was. What is decided of
    a prompt follows from its own values and those of the ordinary prompts, with a budget of all prompts, and never
    from their order.
    """
    plan = Spending.of(detection)
    calibrate([], fpr=fpr)
    where = detection.conditions(model) | {"seeds": plan.most}
    known = asked.known
    ordinary = [i for i, told in known.items() if told["role"] == "negative" or told["label"] is False]
    rule = None if threshold is None else stored_rule(threshold, where)
    cost = 1.0 if plan.budget is None else evaluations_of_one(model, plan.base)
    if rule is None:
        plan.require_budget(len(known), len(pilots(ordinary, fpr)), cost)
    settings = {
        **{k: v for k, v in vars(detection).items() if k != "params"},
        "params": detection.parameters,
        "fpr": fpr,
        "threshold": None if threshold is None else str(threshold),
        "content": asked.content,
    }
    about = {"model": model.describe(), "device": str(model.device), "method": detection.checked().about}
    with Run(out, "detect", settings, overwrite=overwrite, **about) as run:
        look = partial(_look, job, model, batch)
        looks = Looks(look, run.folder, plan.base, asked.all, detection.seed, plan.most)
        rule = looked_at(plan, looks, ordinary, fpr, cost, rule)
        rows = [_row(detection, looks, rule, p, known[p.id]) for p in looks.prompts]
        result = calibrate(rows, fpr=fpr, threshold=rule.threshold if rule else None)
        run.replace_rows([])
        run.append(result.rows, evaluations=looks.evaluations, seconds=looks.seconds)
        notes = [n for n in result.summary["notes"] if threshold is not None or n != GIVEN]
        said = {**result.summary, **_told(plan, looks, rule, result.rows, notes)}
        if rule is not None and threshold is None:
            said["threshold_fpr"] = fpr
        return run.finish(**said, conditions=where, **left_out(asked.all))


def _look(
    job: Job, model: Denoiser, batch: int | str, asked: AskedPrompts, folder: Path, base: Detection, anew: bool
) -> Json:
    return job(model, asked, folder, base, fpr=0.01, threshold=None, batch=batch, overwrite=anew)


def evaluations_of_one(model: Denoiser, base: Detection) -> float:
    """Network evaluations of a further prompt of a batch, which shares what the first one has; they are not counted."""
    before, counts = model.network_evaluations, []
    with model.bounded(1):
        for texts in (["a"], ["a", "b"]):
            began = model.network_evaluations
            detect_rows(model, as_prompts(texts), base)
            counts.append(model.network_evaluations - began)
    model.network_evaluations = before
    return float(counts[1] - counts[0])


def _row(detection: Detection, looks: Looks, rule: StopRule | None, prompt: Prompt, known: KnownRole) -> DetectRow:
    """A prompt's score after the look that decided, with the values of all looks."""
    first, values = looks.rows[prompt.id], looks.values.get(prompt.id)
    if values is None:
        return {**first, **known}
    count, score = len(values), math.fsum(values) / len(values)
    if rule is not None:
        count = rule.stopping.looked(values, rule.threshold) or count
        score = rule.stopping.estimates(values)[count - 1][0]
    kept: Any = {k: first[k] for k in ("units", "cut_off") if k in first}
    return {
        "id": prompt.id,
        "prompt": first["prompt"],
        "seeds": looks.seeds(prompt)[: len(values)],
        "method": NAME,
        "params": detection.parameters,
        "score": score,
        "per_seed": values,
        "looks": count,
        "evaluations": looks.costs[prompt.id],
        **kept,
        **known,
        "status": "ok",
    }


def _told(plan: Spending, looks: Looks, rule: StopRule | None, rows: list[DetectRow], notes: list[str]) -> Json:
    """What the summary says of the looks, with its notes."""
    counts = [sum(r.get("looks") == k for r in rows) for k in range(1, plan.most + 1)]
    cut = cut_off_summary(rows)
    notes = [*notes, FULL if rule is None else _promise(plan, rule), *cut.pop("notes", ())]
    said: Json = {**cut, "looks": counts, "evaluations_per_prompt": looks.evaluations / max(1, len(rows))}
    said |= {k: looks.said[k] for k in ("units", "dtype_error") if k in looks.said} | {"notes": notes}
    return said if rule is None else said | {"stopping": {**asdict(rule.stopping), "error": rule.error}}


def _promise(plan: Spending, rule: StopRule) -> str:
    return (
        f"Of prompts that all {plan.most} seeds would flag, at most {100 * rule.error:.3g} % are cleared before the "
        f"last seed, and of those that they would clear at most as many flagged, if seeds vary normally and alike."
    )
