"""Detectors on the bench: how many views a picture needs to be found, against how many it needs to be copied."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.bench import copies
from mnemoscope.bench.cell import Bench, Contest, Outcome, Tried, refused_by
from mnemoscope.bench.copies import COPIES, HALF, SHARE, ByDose, Shares, copied
from mnemoscope.bench.figures import ALL, OTHERS, Form, Key, Places, figures, pictures, plain
from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.truth import TruePrompt, Truth
from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.run.bench_rows import BenchRow
from mnemoscope.run.rows import DetectRow
from mnemoscope.run.run import read_rows

FPR = 0.01
AUC, SOURCE, ALARMS, EARLIER = "auc", "auc_source", "alarms", "earlier"
EVALUATIONS, BEST = "evaluations", "best"
FORMS = {
    SHARE: Form(bounded=True),
    AUC: Form("{:.3f}".format, bounded=True, against=OTHERS),
    SOURCE: Form("{:.3f}".format, bounded=True, against=ALL),
    ALARMS: Form("{:.3f}".format, bounded=True),
    EARLIER: Form("{:.2g}".format),
    EVALUATIONS: Form("{:.1f}".format),
    BEST: Form(lambda value: "yes"),
}


def _detection(bench: Bench, tried: Tried) -> Detection:
    trial = bench.trial
    return Detection(tried.given, trial.own(tried.method), seeds=trial.seeds, **trial.sampling)


def refusal(bench: Bench, tried: Tried | None) -> str | None:
    """Why a method cannot score a prompt of a model; None where it can."""
    if tried is None:
        return copies.refusal(bench)
    return refused_by(lambda: _scored(bench, _detection(bench, tried)))


def _scored(bench: Bench, detection: Detection) -> None:
    detection.checked()
    detection.conditions(bench.model)
    detect_rows(bench.model, bench.truth.prompts[:1], detection)


def cell(bench: Bench, tried: Tried | None, folder: Path) -> Outcome:
    """The scores of all prompts by a method, as a run, and what they say; without a method the images drawn."""
    if tried is None:
        return copies.cell(bench, folder)
    summary = run_detection(bench.model, bench.truth.prompts, folder, _detection(bench, tried), batch=bench.batch)
    scores = {r["id"]: r["score"] for r in read_rows(folder, DetectRow) if r["status"] == "ok"}
    known = [each for each in bench.truth.known if each.prompt.id in scores]
    drawn = copied(bench.folder / COPIES)
    judged = Judged(bench.truth, known, np.array([scores[each.prompt.id] for each in known]), drawn)
    forms = {**FORMS, HALF: judged.by_dose.form}
    own = figures(known, judged.statistics, pictures(known), forms, seed=bench.trial.seed)
    count = len(bench.truth.known)
    own.append(plain(EVALUATIONS, "", summary["network_evaluations"] / count, count, FORMS[EVALUATIONS]))
    return Outcome({"": own}, {"": summary["seconds"] / count}, summary["network_evaluations"], summary["seconds"])


class Judged:
    """Scores of prompts of which it is known whether, and how often, their picture was trained."""

    def __init__(
        self, truth: Truth, known: Sequence[TruePrompt], scores: Shares, drawn: Mapping[str, float] | None = None
    ) -> None:
        self.kinds, self.sources, self.by_dose = truth.kinds, truth.sources, ByDose(truth, known)
        self.known = known
        self.scores, self.member = scores, np.array([each.is_member for each in known])
        self.of_kind = {name: np.array([e.is_member and e.kind == name for e in known]) for name in self.kinds}
        self.of_source = {
            name: np.array([not e.is_member and e.source == name for e in known]) for name in self.sources
        }
        self.copied = np.array([(drawn or {}).get(each.prompt.id, math.nan) for each in known])

    def statistics(self, places: Places) -> dict[Key, float]:
        """Every figure of some of the prompts; NaN where their number does not support it."""
        scores, member = self.scores[places], self.member[places]
        found: dict[Key, float] = {}
        for name in self.kinds:
            found[AUC, name] = _auc(scores[self.of_kind[name][places]], scores[~member])
        for name in self.sources:
            found[SOURCE, name] = _auc(scores[member], scores[self.of_source[name][places]])
        if (~member).sum() < 1 / FPR:
            return found
        flagged = (self.scores >= stats.threshold_at_fpr(scores[~member], FPR)).astype(float)
        for name in self.sources:
            own = flagged[places][self.of_source[name][places]]
            found[ALARMS, name] = float(own.mean()) if own.size else math.nan
        found |= self.by_dose.means(places, flagged)
        return found | self._earlier(places, found)

    def _earlier(self, places: Places, found: Mapping[Key, float]) -> dict[Key, float]:
        """How many times as many views half of the copies need as half of what is found."""
        leaks = self.by_dose.means(places, self.copied)
        return {(EARLIER, kind): _ratio(leaks[HALF, kind], found[HALF, kind]) for kind in self.by_dose.curves}


def _ratio(leak: float, seen: float) -> float:
    """One dose over another, unless both are beyond what was tried."""
    return math.nan if math.isinf(leak) and math.isinf(seen) else leak / seen


def _auc(memorized: Shares, ordinary: Shares) -> float:
    return stats.auc(memorized, ordinary) if memorized.size and ordinary.size else math.nan


def best(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """The rows, with a mark at the methods that no other one of the model beats at as few evaluations."""
    made: list[BenchRow] = []
    for row in rows:
        others = [_worth(other) for other in rows if other["model"] == row["model"] and other is not row]
        own = _worth(row)
        is_best = own is not None and not any(_beats(other, own) for other in others if other is not None)
        mark = [plain(BEST, "", 1.0, 1, FORMS[BEST])] if is_best else []
        made.append({**row, "figures": [*row["figures"], *mark]})
    return made


def _worth(row: BenchRow) -> tuple[float, float] | None:
    """Share found and evaluations of a prompt, where both are known."""
    values = {(f["quantity"], f["group"]): f["value"] for f in row["figures"]}
    share, cost = values.get((SHARE, ALL)), values.get((EVALUATIONS, ""))
    return None if share is None or cost is None else (share, cost)


def _beats(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other[0] >= own[0] and other[1] <= own[1] and other != own


SHEETS = (
    Sheet(
        "Found, by kind and number of views",
        "Share of prompts whose score passes the threshold of 1 % false alarms among all negatives; of copied-images "
        "the share of unmitigated images that copy their training picture. In brackets 95 % intervals over pictures.",
        {SHARE: ""},
    ),
    Sheet(
        "Views at which half is reached",
        "Of a detector half is found, of copied-images half is copied; earlier is the second over the first: above 1, "
        "a picture is found at fewer views than it takes to be copied.",
        {HALF: "half of", EARLIER: "times earlier,"},
    ),
    Sheet(
        "AUC by kind and by source of negatives",
        "By kind against all negatives; all members against each source. Against twins, which differ from members in "
        "nothing but their training, it is the AUC of telling membership.",
        {AUC: "", SOURCE: "members against"},
    ),
    Sheet("False alarms by source", "Share of each source above the common threshold of 1 %.", {ALARMS: ""}),
    Sheet(
        "Cost",
        "Network evaluations and seconds of a prompt. Best: none finds as many prompts at as few evaluations.",
        {SHARE: "found,", EVALUATIONS: "evaluations", BEST: "best"},
        groups=("", ALL),
        has_seconds=True,
    ),
)


def names() -> list[str]:
    """All scores and detectors."""
    return [*registry.names("score"), *registry.names("detect")]


def notes(truth: Truth) -> list[str]:
    """What too few negatives leave open."""
    count = sum(not each.is_member for each in truth.known)
    few = f"Shares found at 1 % false alarms need {round(1 / FPR)} negatives, and {count} were read: they are left out."
    return [few] if count < 1 / FPR else []


DETECT = Contest(
    "detect", names, registry.detection, refusal, cell, SHEETS, (COPIES,), notes, lambda rows, _: best(rows)
)
