"""A gate's verdict as a page: the outcome, pairs of pictures, what changed since a baseline, every copy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.report import leaks
from mnemoscope.report.page import save
from mnemoscope.report.reading import read_all
from mnemoscope.report.record import Card, Fold, Record, Section
from mnemoscope.report.text import counted, ends, interval
from mnemoscope.report.verdict import told
from mnemoscope.report.view import LIMITS, lead, under
from mnemoscope.run import several
from mnemoscope.run.reading import Json

PAGE = "verdict.html"
CHANGES = {"newly_flagged": "Newly flagged", "cleared": "Cleared", "still_flagged": "Still flagged"}
LISTED = 500  # prompts of each kind of change
NOTES = [
    "Each check has its interval for itself: of many checks at their limits one in twenty or so goes wrong by chance.",
    "Copies are found only among the training pictures given: against a part of them a rate is a lower bound.",
    "A pass says that the limits hold for these prompts, seeds and settings, and nothing of others.",
]


def write_verdict(verdict: Mapping[str, Any], runs: Sequence[Path], folder: Path) -> Path:
    """Write a verdict on runs as `verdict.html` into its folder, and return the path.

    Raises `UsageError` for runs that a page cannot show, or a place that cannot be written.
    """
    folders = list(dict.fromkeys(several.split(run)[0] for run in runs))
    records = [record for run in folders for record in read_all(run)]
    view = {"name": ", ".join(run.resolve().name for run in folders), **_view(verdict, records, folder)}
    try:
        save(folder / PAGE, [view], title="verdict")
    except OSError as error:
        raise UsageError(f"The page of the verdict cannot be written ({error}); give another folder.") from None
    return folder / PAGE


def _view(verdict: Mapping[str, Any], records: Sequence[Record], folder: Path) -> Json:
    measured = [record for record in records if record.title == "measure"]
    change = verdict["baseline"]
    above = [lead([change["headline"] + "."] if change else [], verdict=told(verdict), under=under(records))]
    pairs = leaks.exhibits([r for r in records if r.title in ("measure", "generate")], folder)
    above += [pairs] if pairs else []
    above += [Section("numbers.html", {"cards": _numbers(change)}), _change(change)] if change else []
    above += [leaks.section(measured, folder)] if measured else []
    return {"above": above, "folds": _folds(verdict)}


def _folds(verdict: Mapping[str, Any]) -> list[Fold]:
    checks = Section("checks.html", {"checks": told(verdict)["checks"], "level": verdict["policy"]["level"]})
    notes = Section("notes.html", {"notes": NOTES})
    runs = Section("gated.html", {"runs": verdict["runs"], "policy": verdict["policy"], "version": verdict["version"]})
    return [
        Fold("How was each check decided?", [checks]),
        Fold(LIMITS, [notes]),
        Fold("Which runs, models and policy?", [runs]),
    ]


def _numbers(change: Mapping[str, Any]) -> list[Card]:
    """The prompts by what became of them, and the mean change of the score."""
    of = f"of {counted(change['prompts'], 'prompt')} in common"
    made: list[Card] = [(name, f"{len(change[key]):,}", of) for key, name in CHANGES.items()]
    said = interval(list(found), "{:+.3g}") if (found := ends(change["score_change_interval"])) else "of one prompt"
    return [*made, ("Mean change of the score", f"{change['score_change']:+.3g}", said)]


def _change(change: Mapping[str, Any]) -> Section:
    rows = [row | {"change": name} for key, name in CHANGES.items() for row in change[key][:LISTED]]
    left = sum(max(0, len(change[key]) - LISTED) for key in CHANGES)
    alone = {name: change[name] for name in ("only_here", "only_baseline", "without_flag")}
    return Section("baseline.html", {"rows": rows, "left": left, "said": change["thresholds"], **alone})
