"""A run as read from its folder: its record, its summary, its rows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mnemoscope.report.text import number
from mnemoscope.run.reading import Json

Card = tuple[str, str, str]  # label, value, detail
Drawing = tuple[str, str, str, Figure]  # file stem, title, what to look for, figure
Drawings = Iterator[Drawing]


@dataclass(frozen=True)
class Section:
    """A part of a page: the template that shows it, what that template is given, and notes for the end of the page."""

    template: str
    content: Json
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fold:
    """Sections of a page that answer one question, folded until it is asked."""

    question: str
    sections: list[Section]


@dataclass(frozen=True)
class Record:
    """One run as read from its folder; `notes` says what was wrong with the files."""

    path: Path
    info: Json
    summary: Json
    rows: list[Json]
    notes: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """What made the run: detect, generate, explain, rewrite or sweep."""
        return str(self.info["command"])

    @property
    def title(self) -> str:
        """What a page calls the run: its command, or "mitigate" for images of which some were mitigated."""
        if not any(row.get("mitigation") for row in self.rows):
            return self.command
        return {"generate": "mitigate", "measure": "measure, mitigated"}.get(self.command, self.command)

    @property
    def method(self) -> str:
        """The name of the method, for a detect or explain run."""
        return str(self.part("method").get("name") or self.part("settings").get("method") or "score")

    def part(self, key: str) -> Json:
        """What run.json, or else summary.json, holds under a key; empty if it is not an object."""
        return part(self.info, key) or part(self.summary, key)

    @property
    def conditions(self) -> dict[str, Json]:
        """What the threshold holds for, that of each method where there are several, under a title."""
        title, whole = "Conditions of the threshold", {"conditions": self.part("conditions")}
        own = {"": whole, **part(self.summary, "methods")}
        named = {f"{title} of {name}" if name else title: each for name, each in own.items()}
        return {said: part(each, "conditions") for said, each in named.items() if isinstance(each, dict)}

    @property
    def remaining(self) -> Json:
        """What run.json says outside its objects, such as the device."""
        return {key: value for key, value in self.info.items() if not isinstance(value, dict)}

    @property
    def labelled(self) -> bool:
        """Whether the run says of any prompt that it is memorized, so that AUC and TPR are about memorization."""
        return any(row["label"] is True for row in self.done)

    @property
    def done(self) -> list[Json]:
        """The rows that did not fail."""
        return [row for row in self.rows if row["status"] == "ok"]

    @property
    def failures(self) -> list[Json]:
        """The rows that failed."""
        return [row for row in self.rows if row["status"] != "ok"]

    @property
    def ranked(self) -> list[Json]:
        """The prompts under test, most suspicious first."""
        return by_score(row for row in self.done if row.get("role") != "negative")

    @property
    def negatives(self) -> list[Json]:
        """The ordinary prompts that only set the threshold, highest score first."""
        return by_score(row for row in self.done if row.get("role") == "negative")


def by_score(rows: Any) -> list[Json]:
    """Rows from the highest score to the lowest, those without a score last."""
    return sorted(rows, key=lambda row: -math.inf if row.get("score") is None else row["score"], reverse=True)


def grouped(rows: list[Json], key: Callable[[Json], Any]) -> dict[Any, list[Json]]:
    """Rows by what a key says of them, in the order of first appearance."""
    found: dict[Any, list[Json]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def part(info: Json, key: str) -> Json:
    """What a JSON object holds under a key, if that is an object; empty otherwise."""
    value = info.get(key)
    return value if isinstance(value, dict) else {}


def checked(row: Json) -> Json:
    """A row with every field that all pages need, in the type they need."""
    found: Json = dict.fromkeys(("role", "seed", "label", "flagged")) | row
    found |= {key: number(row.get(key)) for key in ("score", "threshold", "similarity", "own_similarity")}
    found |= {key: str(row.get(key, "")) for key in ("id", "prompt")}
    found["prompt_id"] = str(row.get("prompt_id", row.get("id", "")))
    found["kind"] = str(row.get("kind") or "")
    return found | {"status": str(row.get("status", "ok")), "error": str(row.get("error") or "no reason was recorded")}


def failed(row: Json, reason: str) -> Json:
    """The row as a failure, unless it is one already."""
    return row if row["status"] != "ok" else row | {"status": "failed", "error": reason}


def listed(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
