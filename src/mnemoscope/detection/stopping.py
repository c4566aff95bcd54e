"""When a sequential detection stops looking: what was asked for, and the rule that ordinary prompts give."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.detection.scoring import Detection
from mnemoscope.detection.seed_by_seed import Looks
from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import is_number
from mnemoscope.methods.thresholds import detection_summary, stored_threshold
from mnemoscope.run.reading import Json
from mnemoscope.stats.checks import require_share
from mnemoscope.stats.sequential import FEWEST_PILOTS, Stopping, affordable, open_to

NAME, MOST, PILOTS = "sequential", 4, 32


@dataclass(frozen=True)
class StopRule:
    """When to stop: the threshold, how far from it, and the error that this is good for."""

    stopping: Stopping
    threshold: float
    error: float


@dataclass(frozen=True)
class Spending:
    """A sequential detection as it was asked for: what is looked at with each seed, and how many seeds at most."""

    base: Detection
    most: int
    error: float
    budget: float | None

    @classmethod
    def of(cls, detection: Detection) -> "Spending":
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

    def require_budget(self, prompts: int, pilots: int, cost: float) -> None:
        """Raise `UsageError` for a budget that the first seed of all prompts and all seeds of the pilots would pass."""
        least = cost * (1 + pilots * (self.most - 1) / max(1, prompts))
        if self.budget is not None and self.budget < least:
            beside = f", and all seeds of {pilots} ordinary prompts to calibrate on" if pilots else ""
            raise UsageError(
                f"A budget of {self.budget:g} evaluations a prompt was given; the first seed{beside} "
                f"{'take' if pilots else 'takes'} {math.ceil(100 * least) / 100:g}; give at least that."
            )

    def blind(self, cost: float) -> int:
        """How many seeds of every prompt are looked at where nothing can stop: what a budget allows, or all."""
        return self.most if self.budget is None else max(1, min(self.most, int(self.budget / max(cost, 1e-12))))


def stored_rule(given: str | Path | int | float, now: Json) -> StopRule:
    """The rule of an earlier sequential detection; raises `UsageError` for what is none, or of other conditions."""
    file = Path(str(given))
    told = None if is_number(str(given)) else detection_summary(file, NAME).get("stopping")
    if not isinstance(told, dict):
        raise UsageError(f"{given} does not say when to stop; give the run of an earlier sequential detection.")
    stopping = Stopping(tuple(told["shifts"]), tuple(told["margins"]))
    return StopRule(stopping, stored_threshold(file, now), told["error"])


def looked_at(
    plan: Spending, looks: Looks, ordinary: list[str], fpr: float, cost: float, rule: StopRule | None
) -> StopRule | None:
    """Look at every prompt as often as it needs; returns the rule, None where nothing could stop any of them."""
    every = [p.id for p in looks.prompts]
    looks.take("seed-1", every, range(1))
    tested = every if rule else [i for i in every if i not in set(ordinary)]
    rule = rule or calibrated(plan, looks, ordinary, fpr, cost)
    if rule is None:
        short = [i for i in every if len(looks.values.get(i, ())) == 1]
        if (seeds := plan.blind(cost)) > 1:
            looks.take("all-seeds", short, range(1, seeds))
        return None
    for k in range(1, plan.most):
        values = ((i, looks.values.get(i)) for i in tested)
        more = [i for i, own in values if own and rule.stopping.looked(own, rule.threshold) is None]
        looks.take(f"seed-{k + 1}", more, range(k, k + 1))
    return rule


def pilots(ordinary: list[str], fpr: float) -> list[str]:
    """Ordinary prompts of which all seeds are looked at, the same in any order; none where there is no threshold."""
    few = len(ordinary) < max(FEWEST_PILOTS, math.ceil(round(1 / fpr, 6)))
    return [] if few else sorted(ordinary, key=lambda i: i.removeprefix("n-"))[:PILOTS]


def calibrated(plan: Spending, looks: Looks, ordinary: list[str], fpr: float, cost: float) -> StopRule | None:
    """The rule by ordinary prompts; None for fewer of them than a threshold takes.

    All seeds of a few, chosen by their text, say how far the mean of the first ones lies from that of all. Of the
    others further seeds are looked at only while the threshold may depend on them: it is that of all their seeds.
    """
    some = pilots([i for i in ordinary if i in looks.values], fpr)
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
    return StopRule(stopping, stats.threshold_at_fpr(scores, fpr), min(1.0, error))
