"""Detection that looks at further seeds only of prompts near the threshold, and spends no more than it is given."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.detection.concluding import AskedPrompts
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.detection.seed_by_seed import Looks
from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import is_number
from mnemoscope.methods.thresholds import GIVEN, calibrate, detection_summary, stored_threshold
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.tokens import cut_off_summary
from mnemoscope.prompts.prompt import Prompt, as_prompts, left_out
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow, KnownRole
from mnemoscope.run.run import Run
from mnemoscope.stats.checks import require_negatives, require_share
from mnemoscope.stats.sequential import FEWEST_PILOTS, Stopping, affordable, open_to

NAME, MOST, PILOTS = "sequential", 4, 32
FULL = "No threshold could be set, so that nothing could stop early: every prompt was looked at with all seeds."
Job = Callable[..., Json]


@dataclass(frozen=True)
class Rule:
    """When to stop: the threshold, how far from it, and the error that this is good for."""

    stopping: Stopping
    threshold: float
    error: float


def is_sequential(detection: Detection) -> bool:
    """Whether a detection is by the method that this job is of."""
    return registry.detection(detection.method).name == NAME


@dataclass(frozen=True)
class Plan:
    """A sequential detection as it was asked for: what is looked at with each seed, and how many seeds at most."""

    base: Detection
    most: int
    error: float
    budget: float | None

    @classmethod
    def of(cls, detection: Detection) -> "Plan":
        """Raises `UsageError` for a base score whose seeds are not averaged, and for numbers out of range."""
        detection.checked()
        defaults = {k: p.default for k, p in registry.detection(NAME).parameters.items()}
        given = {**defaults, **detection.parameters}
        base = Detection(
            given["score"],
            {} if given["steps"] is None else {"steps": given["steps"]},
            num_inference_steps=detection.num_inference_steps,
            guidance_scale=detection.guidance_scale,
        )
        found = base.checked()
        if found.over_seeds != "mean" or found.name == NAME:
            raise UsageError(
                f"sequential averages one score over seeds, and {found.name} does not; give another score."
            )
        most = given["most"] or (detection.seeds if detection.seeds > 1 else MOST)
        require_share("error", given["error"])
        if most < 2 or detection.seeds not in (1, most):
            raise UsageError(f"sequential was given {most} seeds at most; give most=2 or more, or as many --seeds.")
        return cls(base, most, given["error"], given["budget"])

    def require_budget(self, prompts: int, ordinary: int, cost: float) -> None:
        """Raise `UsageError` for a budget that the first seed of all prompts and the pilot would pass."""
        least = cost * (1 + min(PILOTS, ordinary) * (self.most - 1) / max(1, prompts))
        if self.budget is not None and self.budget < least:
            raise UsageError(
                f"A budget of {self.budget:g} evaluations a prompt was given; the first seed, and all seeds of "
                f"{min(PILOTS, ordinary)} ordinary prompts to calibrate on, take {least:.3g}; give at least that."
            )


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
    plan = Plan.of(detection)
    calibrate([], fpr=fpr)
    where = detection.conditions(model) | {"seeds": plan.most}
    known = asked.known
    ordinary = [i for i, told in known.items() if told["role"] == "negative" or told["label"] is False]
    rule = None if threshold is None else stored_rule(threshold, where)
    cost = 1.0 if plan.budget is None else evaluations_of_one(model, plan.base)
    if rule is None and ordinary:
        plan.require_budget(len(known), len(ordinary), cost)
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


def stored_rule(given: str | Path | int | float, now: Json) -> Rule:
    """The rule of an earlier sequential detection; raises `UsageError` for what is none, or of other conditions."""
    file = Path(str(given))
    told = None if is_number(str(given)) else detection_summary(file, NAME).get("stopping")
    if not isinstance(told, dict):
        raise UsageError(f"{given} does not say when to stop; give the run of an earlier sequential detection.")
    stopping = Stopping(tuple(told["shifts"]), tuple(told["margins"]))
    return Rule(stopping, stored_threshold(file, now), told["error"])


def looked_at(plan: Plan, looks: Looks, ordinary: list[str], fpr: float, cost: float, rule: Rule | None) -> Rule | None:
    """Look at every prompt as often as it needs; returns the rule, None where nothing could stop any of them."""
    every = [p.id for p in looks.prompts]
    looks.take("seed-1", every, range(1))
    tested = every if rule else [i for i in every if i not in set(ordinary)]
    rule = rule or calibrated(plan, looks, ordinary, fpr, cost)
    if rule is None:
        short = [i for i in every if len(looks.values.get(i, ())) == 1]
        looks.take("all-seeds", short, range(1, plan.most))
        return None
    for k in range(1, plan.most):
        values = ((i, looks.values.get(i)) for i in tested)
        more = [i for i, own in values if own and rule.stopping.looked(own, rule.threshold) is None]
        looks.take(f"seed-{k + 1}", more, range(k, k + 1))
    return rule


def calibrated(plan: Plan, looks: Looks, ordinary: list[str], fpr: float, cost: float) -> Rule | None:
    """The rule by ordinary prompts; None for fewer of them than a threshold takes.

    All seeds of a few, chosen by their text, say how far the mean of the first ones lies from that of all. Of the
    others further seeds are looked at only while the threshold may depend on them: it is that of all their seeds.
    """
    try:
        require_negatives("A threshold", fpr, sum(i in looks.values for i in ordinary))
    except UsageError:
        return None
    some = sorted(ordinary, key=lambda i: i.removeprefix("n-"))[:PILOTS]
    looks.take("pilot", some, range(1, plan.most))
    pilot = looks.whole(some)
    if len(pilot) < FEWEST_PILOTS:
        return None

    def own() -> tuple[dict[str, list[float]], int]:
        values = {i: looks.values[i] for i in ordinary if i in looks.values}
        return values, min(math.floor(round(fpr * len(values), 6)), len(values) - 1)

    error = plan.error
    if plan.budget is not None:
        values, allowed = own()
        others = {i: v for i, v in looks.values.items() if i not in values}
        room = plan.budget * len(looks.prompts) / max(cost, 1e-12) - looks.count
        error = affordable(pilot, error, values, others, allowed, room)
    stopping = Stopping.of(pilot, error)
    for k in range(1, plan.most):
        more = [i for i in open_to(stopping, *own())[0] if len(looks.values[i]) == k]
        looks.take(f"ordinary-{k + 1}", more, range(k, k + 1))
    scores = np.array([stopping.turning(values)[0] for values in own()[0].values()])
    return Rule(stopping, stats.threshold_at_fpr(scores, fpr), min(1.0, error))


def _row(detection: Detection, looks: Looks, rule: Rule | None, prompt: Prompt, known: KnownRole) -> DetectRow:
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


def _told(plan: Plan, looks: Looks, rule: Rule | None, rows: list[DetectRow], notes: list[str]) -> Json:
    """What the summary says of the looks, with its notes."""
    counts = [sum(r.get("looks") == k for r in rows) for k in range(1, plan.most + 1)]
    cut = cut_off_summary(rows)
    notes = [*notes, FULL if rule is None else _promise(plan, rule), *cut.pop("notes", ())]
    said: Json = {**cut, "looks": counts, "evaluations_per_prompt": looks.evaluations / max(1, len(rows))}
    said |= {k: looks.said[k] for k in ("units", "dtype_error") if k in looks.said} | {"notes": notes}
    return said if rule is None else said | {"stopping": {**asdict(rule.stopping), "error": rule.error}}


def _promise(plan: Plan, rule: Rule) -> str:
    return (
        f"Of prompts that all {plan.most} seeds would flag, at most {100 * rule.error:.3g} % are cleared before the "
        f"last seed, and of those that they would clear at most as many flagged, if seeds vary normally and alike."
    )
