"""The policy of a gate: limits on what runs found, written before the runs, read from a YAML file and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError, likely
from mnemoscope.run.reading import is_number
from mnemoscope.run.settings import Settings
from mnemoscope.run.yaml_values import read_yaml

FIELDS = ("name", "measure", "max", "min", "group", "threshold", "preset", "min_samples", "when_missing")
WHEN_MISSING = ("fail", "undecided", "pass")
GROUPS = ("all", "flagged", "not_flagged")
MOST_CHECKS = 1000


@dataclass(frozen=True)
class Measure:
    """A number that a check limits: the command whose runs hold it, what it is a statistic of, and what is counted.

    `statistic` is `rate` for a share of samples, or `mean` or `p95` of a value of theirs.
    """

    command: str
    statistic: str
    unit: str
    groups: tuple[str, ...] = (*GROUPS, "kind")
    has_preset: bool = False
    has_threshold: bool = True
    needs_baseline: bool = False


_DETECT: Settings = {"groups": ("all", "kind")}
MEASURES = {
    "flagged_share": Measure("detect", "rate", "prompts", **_DETECT),
    "newly_flagged_share": Measure("detect", "rate", "prompts", **_DETECT, needs_baseline=True),
    "score_change": Measure("detect", "mean", "prompts", **_DETECT, has_threshold=False, needs_baseline=True),
    "replication_rate": Measure("measure", "rate", "images", has_preset=True),
    "copied_prompt_share": Measure("measure", "rate", "prompts", has_preset=True),
    "similarity_mean": Measure("measure", "mean", "images", has_preset=True, has_threshold=False),
    "similarity_p95": Measure("measure", "p95", "images", has_preset=True, has_threshold=False),
    "own_similarity_mean": Measure("measure", "mean", "images", has_preset=True, has_threshold=False),
    "own_similarity_p95": Measure("measure", "p95", "images", has_preset=True, has_threshold=False),
    "memorization_ratio": Measure("emm-ratio", "rate", "images", ("all",), has_preset=True),
    "recover_success": Measure("recover", "rate", "prompts", has_preset=True),
}


@dataclass(frozen=True)
class Check:
    """One limit: what is measured, of which samples, how much or little of it is allowed, and on what evidence."""

    name: str
    measure: str
    max: int | float | None = None
    min: int | float | None = None
    group: str = "all"
    threshold: int | float | None = None
    preset: str | None = None
    min_samples: int = 1
    when_missing: str = "undecided"

    @property
    def about(self) -> Measure:
        return MEASURES[self.measure]

    @property
    def limit(self) -> str:
        """The limit in words."""
        words = {"at least": self.min, "at most": self.max}
        return " and ".join(f"{word} {value:g}" for word, value in words.items() if value is not None)


@dataclass(frozen=True)
class Policy:
    """The checks of a policy file, and the level of the intervals that they are decided by."""

    file: Path
    checks: tuple[Check, ...]
    level: float = 0.95


def read_policy(file: Path) -> Policy:
    """The policy of a YAML file; raises `UsageError`, one sentence for the first mistake."""
    value, where = read_yaml(file), str(file)
    if not isinstance(value, dict):
        raise UsageError(f"{where} holds no policy; give a YAML mapping with a list of checks.")
    _refuse_unknown(value, ("checks", "level"), where)
    level, checks = value.get("level", 0.95), value.get("checks")
    if not (is_number(level) and 0.5 <= level < 1):
        raise UsageError(f"{where}: level is {_shown(level)}; give the level of the intervals, as 0.95.")
    if not isinstance(checks, list) or not 0 < len(checks) <= MOST_CHECKS:
        raise UsageError(f"{where}: checks is {_shown(checks)}; give a list of 1 to {MOST_CHECKS:,} checks.")
    found = tuple(_check(each, f"{where}, check {number}") for number, each in enumerate(checks, 1))
    names = [check.name for check in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where}: two checks are named {_shown(twice)}; give each a name of its own.")
    return Policy(file, found, float(level))


def _check(value: Any, where: str) -> Check:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {_shown(value)}; give a mapping with a measure and a limit.")
    _refuse_unknown(value, FIELDS, where)
    measure = value.get("measure")
    if not isinstance(measure, str) or measure not in MEASURES:
        near = likely(measure, MEASURES) if isinstance(measure, str) else ""
        raise UsageError(f"{where}: measure is {_shown(measure)}; give one of {', '.join(MEASURES)}.{near}")
    own = {name: each for name, each in value.items() if each is not None}
    own.setdefault("name", measure if own.get("group", "all") == "all" else f"{measure} of {own['group']}")
    for name, right, expected in _rules(MEASURES[measure]):
        if name in own and not right(own[name]):
            raise UsageError(f"{where}: {name} is {_shown(own[name])}; {expected}.")
    check = Check(**own)
    _refuse_impossible(check, where)
    return check


def _rules(about: Measure) -> "list[tuple[str, Any, str]]":
    """Of each field what it must be, as a test and in words."""
    kinds = ", or kind:NAME" if "kind" in about.groups else ""
    groups = ", ".join(g for g in about.groups if g != "kind")
    is_rate = about.statistic == "rate"
    number = "give a share from 0 to 1" if is_rate else "give a finite number"
    preset = "give the features and preset as FEATURES or FEATURES/PRESET"
    return [
        ("name", lambda v: isinstance(v, str) and 0 < len(v.strip()) <= 200, "give a text of up to 200 characters"),
        ("max", lambda v: is_number(v) and (not is_rate or 0 <= v <= 1), number),
        ("min", lambda v: is_number(v) and (not is_rate or 0 <= v <= 1), number),
        ("group", lambda v: isinstance(v, str) and _is_group(v, about.groups), f"this measure has {groups}{kinds}"),
        ("threshold", lambda v: about.has_threshold and is_number(v), _number_or_none(about.has_threshold)),
        ("preset", lambda v: about.has_preset and isinstance(v, str), preset if about.has_preset else _none("preset")),
        ("min_samples", lambda v: type(v) is int and v > 0, "give a whole number above 0"),
        ("when_missing", lambda v: v in WHEN_MISSING, f"give {', '.join(WHEN_MISSING[:-1])} or {WHEN_MISSING[-1]}"),
    ]


def _number_or_none(has_threshold: bool) -> str:
    return "give the number that the run was made with" if has_threshold else _none("threshold")


def _none(field: str) -> str:
    return f"this measure has no {field}, leave it out"


def _is_group(value: str, groups: Iterable[str]) -> bool:
    kind, colon, name = value.partition(":")
    return value in groups and value != "kind" or ("kind" in groups and kind == "kind" and bool(colon and name.strip()))


def _refuse_impossible(check: Check, where: str) -> None:
    """Raise `UsageError` for a limit that no evidence can show to hold, or that is none."""
    if check.max is None and check.min is None:
        raise UsageError(f"{where} has no limit; give max, min or both.")
    if check.max is not None and check.min is not None and check.min >= check.max:
        raise UsageError(f"{where}: min {check.min:g} is not below max {check.max:g}; give a range.")
    if check.about.statistic == "rate":
        if check.max == 0:
            raise UsageError(f"{where}: max is 0, which no number of samples can show; give a small share, as 0.01.")
        if check.min == 1:
            raise UsageError(f"{where}: min is 1, which no number of samples can show; give a share below it, as 0.99.")


def _refuse_unknown(value: Mapping[Any, Any], known: Iterable[str], where: str) -> None:
    for key in value:
        if key not in known:
            near = likely(key, known) if isinstance(key, str) else ""
            raise UsageError(f"{where}: {_shown(key)} is no field; there are {', '.join(known)}.{near}")


def _shown(value: Any) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
