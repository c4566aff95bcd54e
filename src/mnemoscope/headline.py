"""What a run folder says: its record, its rows, and the one sentence that sums them up."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope.errors import UsageError
from mnemoscope.run import read_json

Row = dict[str, Any]
SHOWN = ("detect", "generate")
INTERNAL = ("content", "companions")  # settings that are no options


@dataclass(frozen=True)
class Record:
    """One run as read from its folder; `notes` says what was wrong with the files."""

    path: Path
    info: Row
    summary: Row
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """What made the run: detect or generate."""
        return str(self.info["command"])

    @property
    def method(self) -> str:
        """The name of the score, for a detect run."""
        return str(self.part("method").get("name") or self.part("settings").get("method") or "score")

    def part(self, key: str) -> Row:
        """What run.json, or else summary.json, holds under a key; empty if it is not an object."""
        return _part(self.info, key) or _part(self.summary, key)

    @property
    def remaining(self) -> Row:
        """What run.json says outside its objects, such as the device."""
        return {key: value for key, value in self.info.items() if not isinstance(value, dict)}

    @property
    def labelled(self) -> bool:
        """Whether the run says of any prompt that it is memorized, so that AUC and TPR are about memorization."""
        return any(row["label"] is True for row in self.done)

    @property
    def done(self) -> list[Row]:
        """The rows that did not fail."""
        return [row for row in self.rows if row["status"] == "ok"]

    @property
    def failures(self) -> list[Row]:
        """The rows that failed."""
        return [row for row in self.rows if row["status"] != "ok"]

    @property
    def ranked(self) -> list[Row]:
        """The prompts under test, most suspicious first."""
        return by_score(row for row in self.done if row.get("role") != "negative")

    @property
    def negatives(self) -> list[Row]:
        """The ordinary prompts that only set the threshold, highest score first."""
        return by_score(row for row in self.done if row.get("role") == "negative")


def parts(run: Path) -> list[Path]:
    """The run folders behind a path: itself, or the `detect` and `generate` folders of an audit.

    Raises UsageError for a folder that holds neither.
    """
    if not run.is_dir():
        raise UsageError(f"{run} is not a folder; give the folder that a run wrote.")
    is_audit = not (run / "run.json").is_file() or read_json(run / "run.json").get("command") == "audit"
    found = [run / name for name in SHOWN if (run / name / "rows.jsonl").is_file()]
    if is_audit and not found:
        raise UsageError(f"{run} holds no run, nor do its folders detect and generate; give a run's folder.")
    return found if is_audit else [run]


def read(run: Path) -> Record:
    """A detect or generate run, read from its folder.

    A line of rows.jsonl that a crash cut short is left out and noted. Raises UsageError for a missing or broken file.
    """
    info = read_json(run / "run.json")
    if info.get("command") not in SHOWN:
        raise UsageError(f"{run} is a run of {info.get('command')!r}; a report shows detect, generate and audit runs.")
    rows, notes = _rows(run / "rows.jsonl")
    summary: Row = {}
    if (run / "summary.json").is_file():
        summary = read_json(run / "summary.json")
    else:
        notes.append(f"The {info['command']} run has no summary.json: it was interrupted or is still going.")
    return Record(run, info, summary, [_checked(row, str(info["command"])) for row in rows], notes)


def headline(record: Record) -> str:
    """The result of a run in one plain sentence, and a second one if something failed."""
    told = _detected(record) if record.command == "detect" else _generated(record)
    failed = len(record.failures)
    return f"{told} {counted(failed, 'row')} failed." if failed else told


def counted(n: int, noun: str) -> str:
    """A number with its noun, in the plural if need be: 1 prompt, 2 prompts."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def number(value: object) -> float | None:
    """The value as a finite number, or None for anything that is not one."""
    try:
        if not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def by_score(rows: Any) -> list[Row]:
    """Rows from the highest score to the lowest, those without a score last."""
    return sorted(rows, key=lambda row: -math.inf if row.get("score") is None else row["score"], reverse=True)


def command_lines(run: Path, records: Sequence[Record]) -> list[str]:
    """The commands that make the runs behind a path again, read from their settings: one for a whole audit."""
    infos = [record.info for record in records]
    if run not in [record.path for record in records] and (run / "run.json").is_file():
        return [command_line(read_json(run / "run.json"), *infos)]
    return [line for info in infos if (line := command_line(info))]


def command_line(info: Row, *parts: Row) -> str:
    """The command of a run, with the settings of its parts; empty where no model was run."""
    settings = {key: value for each in (*parts, info) for key, value in _part(each, "settings").items()}
    model = next((source for each in (info, *parts) if (source := _part(each, "model").get("source"))), None)
    if info["command"] == "audit" and settings.get("prompts") == "demo":
        return "mnemoscope demo --out DIR"
    words = ["mnemoscope", str(info["command"]), str(model)]
    for key, value in settings.items():
        name = {"params": "--param", "mitigation": "--mitigate"}.get(key, "--" + key.replace("_", "-"))
        values = [f"{k}={_word(v)}" for k, v in value.items()] if isinstance(value, dict) else value
        for each in values if isinstance(values, list) else [values]:
            if key not in INTERNAL and each is not None and each is not False:
                words += [name] if each is True else [name, _word(each)]
    return shlex.join([*words, "--out", "DIR"]) if model else ""


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _detected(record: Record) -> str:
    ranked, threshold = record.ranked, number(record.summary.get("threshold"))
    ordinary = int(number(record.summary.get("negatives")) or len(record.negatives))
    prompts = counted(len(ranked), "prompt")
    if threshold is not None:
        flagged = sum(row.get("flagged") is True for row in ranked)
        fpr = number(record.summary.get("threshold_fpr"))
        origin = f", set at {100 * fpr:g} % false alarms on {counted(ordinary, 'ordinary prompt')}" if fpr else ""
        verb = "looks" if flagged == 1 else "look"
        return f"{flagged:,} of {prompts} {verb} memorized (threshold {threshold:.3g}{origin})."
    if not record.summary:
        return f"{prompts} ranked before the run stopped; no threshold was set, so nothing is flagged."
    if not ordinary:
        return f"{prompts} ranked; no negatives were given, so nothing is flagged."
    return f"{prompts} ranked; {counted(ordinary, 'negative')} cannot set a threshold, so nothing is flagged."


def _generated(record: Record) -> str:
    images = counted(len(record.done), "image")
    made = f"{images} generated for {counted(len({row['prompt_id'] for row in record.done}), 'prompt')}"
    values = [row["similarity"] for row in record.done if row["similarity"] is not None]
    if not values:
        return f"{made}; none was compared with reference images."
    return (
        f"{made}; similarity to the nearest reference image: median {np.median(values):.2f}, highest {max(values):.2f}."
    )


def _rows(path: Path) -> tuple[list[Row], list[str]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give the folder that a run wrote.") from None
    rows, notes = [], []
    for index, line in enumerate(lines):
        try:
            if line.strip():
                rows.append({**json.loads(line)})
        except (ValueError, TypeError, RecursionError):
            if index < len(lines) - 1:
                raise UsageError(f"{path}, line {index + 1} is not a JSON object; mend or delete that line.") from None
            notes.append(f"The last line of {path.name} was cut short, as by a crash: 1 row was left out.")
    if not rows:
        raise UsageError(f"{path} holds no rows; run the command to its end, or give another run.")
    return rows, notes


def _checked(row: Row, command: str) -> Row:
    """A row with every field a page needs, in the type it needs; a detect row without a score has failed."""
    checked: Row = dict.fromkeys(("role", "seed", "label", "flagged")) | row
    checked |= {key: number(row.get(key)) for key in ("score", "threshold", "similarity", "own_similarity")}
    checked |= {key: str(row.get(key, "")) for key in ("id", "prompt")}
    checked["prompt_id"] = str(row.get("prompt_id", row.get("id", "")))
    checked |= {key: str(row.get(key) or "") for key in ("file", "match", "match_caption", "kind")}
    checked |= {
        key: v if isinstance(v := row.get(key), list) else [] for key in ("seeds", "series", "timesteps", "mitigation")
    }
    status, error = str(row.get("status", "ok")), str(row.get("error", "no reason was recorded"))
    if status == "ok" and command == "detect" and checked["score"] is None:
        status, error = "failed", f"the score is {row.get('score')!r}, not a finite number"
    return checked | {"status": status, "error": error}


def _part(info: Row, key: str) -> Row:
    value = info.get(key)
    return value if isinstance(value, dict) else {}
