"""A gate's verdict in plain words: what each check looked at, what it allows, and what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.gate.policy import MEASURES
from mnemoscope.report.text import counted, ends, number
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.writing import sha256_of

AT_ONCE = 3  # checks that are shown before the rest is folded
WORDS = {"fail": "fails", "undecided": "undecided", "pass": "passes"}
TITLES = {
    "fail": "The policy fails",
    "undecided": "The policy is undecided",
    "pass": "The policy passes",
}


def verdict_of(run: Path) -> tuple[Json | None, str]:
    """The verdict in a run's folder as a page shows it, and a note where it is not of the rows that the run has now."""
    file = run / "gate" / "verdict.json"
    if not file.is_file():
        return None, ""
    try:
        held = read_json(file)
        known: dict[Path, str] = {}
        for each in held["runs"]:  # those of the run itself come first
            place = run / Path(each["run"]).name / "rows.jsonl"
            known.setdefault(place if place.is_file() else run / "rows.jsonl", each["rows_sha256"])
        is_fresh = any(rows.is_file() for rows in known) and all(
            sha256_of(rows) == digest for rows, digest in known.items() if rows.is_file()
        )
        shown = told(held)
    except (UsageError, KeyError, TypeError, AttributeError, OSError):
        return None, f"{file} cannot be read as a verdict and is not shown; gate the run again."
    stale = f"The verdict in {file} is of other rows than the run holds now and is not shown; gate the run again."
    return (shown, "") if is_fresh else (None, stale)


def told(verdict: Mapping[str, Any]) -> Json:
    """A verdict as the top of a page shows it: the outcome, a sentence, and the checks, those that decided it first."""
    order = list(WORDS)
    checks = sorted(map(check, verdict["checks"]), key=lambda each: order.index(each["outcome"]))
    outcome = str(verdict["verdict"])
    return {
        "outcome": outcome,
        "sentence": f"{TITLES[outcome]}: {_counts(checks, outcome)}.",
        "checks": checks,
        "at_once": AT_ONCE,
        "file": str(verdict["policy"]["file"]),
    }


def check(told: Mapping[str, Any]) -> Json:
    """One check in plain words: `text` says what was found and what is allowed, `why` all that there is to say."""
    word = "not looked at" if told["skipped"] else WORDS[told["outcome"]]
    return {
        "name": str(told["name"]),
        "outcome": told["outcome"],
        "word": word,
        "text": _text(told),
        "why": str(told["why"]),
        "samples": told["samples"],
        "prompts": told["prompts"],
        "value": _value(told, number(told["value"])),
        "ends": [_value(told, end) for end in ends(told["interval"]) or ()],
        "run": str(told["run"] or "–"),
    }


def _counts(checks: list[Json], outcome: str) -> str:
    few = [each for each in checks if each["outcome"] == outcome and each["word"] != "not looked at"]
    looked = [each for each in checks if each["word"] != "not looked at"]
    if outcome == "pass":
        passed = f"{counted(len(looked), 'check')} within the limits"
        return passed if len(looked) == len(checks) else f"{passed}, {len(checks) - len(looked)} not looked at"
    said = {"fail": "outside the limits", "undecided": "with too little evidence"}[outcome]
    return f"{len(few)} of {counted(len(checks), 'check')} {said}"


def _text(told: Mapping[str, Any]) -> str:
    value = number(told["value"])
    if value is None:
        return f"{str(told['why']).split('; by the policy')[0]}."
    unit, samples = MEASURES[told["measure"]].unit, int(told["samples"])
    if _is_rate(told):
        found = f"{round(value * samples):,} of {counted(samples, unit.removesuffix('s'))} ({_value(told, value)})"
    else:
        of = "on average over" if MEASURES[told["measure"]].statistic == "mean" else "in the 95th percentile of"
        found = f"{_value(told, value)} {of} {counted(samples, unit.removesuffix('s'))}"
    return f"{found}; {_limit(told)}{_more(told)}."


def _limit(told: Mapping[str, Any]) -> str:
    least, most = (number(told[key]) for key in ("min", "max"))
    words = [f"at most {_value(told, most)} allowed"] if most is not None else []
    words += [f"at least {_value(told, least)} wanted"] if least is not None else []
    return " and ".join(words)


def _more(told: Mapping[str, Any]) -> str:
    if told["outcome"] != "undecided":
        return ""
    if (more := number(told["further_prompts"])) is None:
        return "; it lies on the limit, where no number of further ones decides"
    return f"; about {counted(int(more), 'more prompt')} would decide it"


def _is_rate(told: Mapping[str, Any]) -> bool:
    return MEASURES[told["measure"]].statistic == "rate"


def _value(told: Mapping[str, Any], value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.3g} %" if _is_rate(told) else f"{value:.3g}"
