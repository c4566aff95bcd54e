"""Each check of a policy decided from the runs: pass, fail or undecided, and how much more evidence would decide it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mnemoscope.gate import baseline
from mnemoscope.gate.estimates import Estimate, estimate, further, side
from mnemoscope.gate.evidence import Evidence, Part, chosen, evidence
from mnemoscope.gate.policy import Check
from mnemoscope.run.reading import Json

OUTCOMES = ("fail", "undecided", "pass")  # the first one that any check has is that of the policy


@dataclass(frozen=True)
class Decision:
    """A check, its outcome, and what it rests on; `more` samples, of `more_prompts` prompts, would decide it."""

    check: Check
    outcome: str
    why: str
    estimate: Estimate | None = None
    part: Part | None = None
    more: int | None = None
    more_prompts: int | None = None
    skipped: bool = False

    def told(self) -> Json:
        """All of it, ready for JSON."""
        found, part = self.estimate, self.part
        numbers: Json = {"value": None, "interval": None, "samples": 0, "prompts": 0}
        if found is not None:
            ends = [found.low, found.high] if math.isfinite(found.low) else None
            numbers = {"value": found.value, "interval": ends, "samples": found.samples, "prompts": found.prompts}
        made: Json = {"run": None, "run_threshold": None, "run_preset": None, "failed_rows": 0}
        if part is not None:
            made = {"run": part.name, "run_threshold": part.threshold}
            made |= {"run_preset": part.preset if self.check.about.has_preset else None, "failed_rows": part.failed}
        more = {"further_samples": self.more, "further_prompts": self.more_prompts, "skipped": self.skipped}
        return {**asdict(self.check), "outcome": self.outcome, "why": self.why, **numbers, **made, **more}


def decide(check: Check, parts: Sequence[Part], pairs: "baseline.Pairs | None", level: float) -> Decision:
    """The outcome of one check; raises `UsageError` where the runs contradict what the check demands of them."""
    if not check.about.needs_baseline:
        return _decided(check, evidence(check, parts), level)
    if pairs is None:
        return _missing(check, "no baseline was given")
    chosen(check, [pairs.here])  # refuses another threshold
    return _decided(check, baseline.evidence(check, pairs), level)


def overall(decisions: Sequence[Decision]) -> str:
    """`fail` if any check failed, else `undecided` if any is, else `pass`."""
    return next(outcome for outcome in OUTCOMES if any(d.outcome == outcome for d in decisions))


def _missing(check: Check, why: str) -> Decision:
    """What the policy says of a check without evidence."""
    skipped = check.when_missing == "pass"
    told = f"{why}; by the policy this {'is passed over' if skipped else f'is {check.when_missing}'}"
    return Decision(check, check.when_missing, told, skipped=skipped)


def _decided(check: Check, found: Evidence | None, level: float) -> Decision:
    if found is None:
        return _missing(check, f"no run of {check.about.command} says it of {_group(check)}")
    if not found.values:
        return _missing(check, f"{found.part.folder} has no {check.about.unit} of {_group(check)} that say it")
    values = np.array(found.values, dtype=np.float64)
    least, most = check.min if check.min is not None else -math.inf, check.max if check.max is not None else math.inf
    estimated = estimate(values, list(found.prompts), check.about.statistic, level)
    outcome, short = side(estimated.low, estimated.high, least, most), check.min_samples - len(values)
    why = _numbers(check, estimated) + _failures(found.part)
    if outcome == "fail" or (outcome == "pass" and short <= 0):
        return Decision(check, outcome, why, estimated, found.part)
    needed = further(estimated, least, most) if outcome == "undecided" else 0
    if needed is None:
        why += "; it lies on the limit, where no number of further samples decides"
        return Decision(check, "undecided", why, estimated, found.part)
    more = max(needed, short)
    prompts = math.ceil(more * estimated.prompts / estimated.samples)
    why += f"; about {_counted(check, more, prompts)} would decide it if it stays as it is"
    why += f" (the policy wants {check.min_samples})" if short > 0 else ""
    return Decision(check, "undecided", why, estimated, found.part, more, prompts)


def _counted(check: Check, more: int, prompts: int) -> str:
    one = check.about.unit.removesuffix("s")
    told = f"{more:,} further {one if more == 1 else check.about.unit}"
    return told if more == prompts else f"{told} ({prompts:,} prompts)"


def _numbers(check: Check, found: Estimate) -> str:
    ends = f"{found.low:.4g} to {found.high:.4g}" if math.isfinite(found.low) else "too few prompts for an interval"
    count = f"{found.samples:,} {check.about.unit}" + (f" of {found.prompts:,} prompts" if _clustered(found) else "")
    return f"{found.value:.4g} ({ends}) from {count}, {_group(check)}; the policy wants {check.limit}"


def _clustered(found: Estimate) -> bool:
    return found.prompts != found.samples


def _failures(part: Part) -> str:
    return f"; {part.failed:,} rows of the run failed and took no part" if part.failed else ""


def _group(check: Check) -> str:
    kind, _, name = check.group.partition(":")
    return f"kind {name.strip()}" if kind == "kind" else {"not_flagged": "not flagged"}.get(kind, kind)
