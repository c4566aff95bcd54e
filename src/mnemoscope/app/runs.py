"""The runs of a folder: what each of them is, how far it is, and its report."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError, plain
from mnemoscope.report import write
from mnemoscope.report.opened import open_run
from mnemoscope.report.record import part
from mnemoscope.run.activity import is_open
from mnemoscope.run.parts import PARTS
from mnemoscope.run.run import read_json

FINISHED, RUNNING, STOPPED, DAMAGED = "finished", "running", "stopped", "damaged"
MOST = 200  # runs in the list, the newest ones
FILES = ("run.json", "rows.jsonl", "summary.json")
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class RunLine:
    """A run as a list shows it."""

    name: str
    kind: str
    model: str
    date: str
    state: str
    headline: str


class Runs:
    """The runs that lie in a folder, each read anew only where its files have changed.

    Nothing is read or shown that lies outside the folder, whatever a link in it points to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, threading.Lock()
        self._known: dict[str, tuple[Any, RunLine]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the runs, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [each for each in self.folder.iterdir() if self._is_run(each)]
        return [each.name for each in sorted(found, key=lambda run: (_began(run), run.name), reverse=True)][:MOST]

    def _is_run(self, place: Path) -> bool:
        inside = place.resolve().is_relative_to(self.folder.resolve())
        return inside and (place / "run.json").is_file()

    def lines(self) -> list[RunLine]:
        """A line for each run, the newest first."""
        with self._lock:
            return [self._line(name) for name in self.names]

    def _line(self, name: str) -> RunLine:
        run = self.folder / name
        stamp = (stamp_of(run), is_open(run))
        if name not in self._known or self._known[name][0] != stamp:
            self._known[name] = (stamp, line_of(run))
        return self._known[name][1]

    def place(self, name: str) -> Path:
        """The folder of a run of the list; raises `UsageError` for anything else."""
        if name not in self.names:
            raise UsageError(f"There is no run {plain(name)[:80]!r} in {self.folder}; choose one of the list.")
        return self.folder / name

    def report(self, name: str) -> Path:
        """The report of a run, written anew where the run has changed since."""
        run = self.place(name)
        page = run / "report.html"
        with self._lock:
            if not page.is_file() or page.stat().st_mtime_ns <= max(stamp_of(run)):
                write([run])
        return page

    def comparison(self, names: Sequence[str], out: Path) -> Path:
        """The report of several runs side by side, written at `out`; raises `UsageError` for fewer than two."""
        if len(set(names)) < 2:
            raise UsageError("Two runs are compared, and one was chosen; choose another one beside it.")
        with self._lock:
            return write([self.place(name) for name in dict.fromkeys(names)], out)

    def picture(self, name: str, inside: str) -> tuple[Path, str]:
        """A picture of a run and its media type; raises `UsageError` for any other file, and for those elsewhere."""
        run = self.place(name).resolve()
        file = (run / inside).resolve()
        kind = PICTURES.get(file.suffix.lower())
        if kind is None or not file.is_relative_to(run) or not file.is_file():
            raise UsageError("The run has no such picture.")
        return file, kind

    def is_running(self, name: str) -> bool:
        """Whether a run of the list is at work."""
        return state_of(self.place(name)) == RUNNING


def line_of(run: Path) -> RunLine:
    """What a list says of a run; of a damaged one, what is wrong with it."""
    try:
        record, began = read_json(run / "run.json"), _began(run)
        kind, model = str(record.get("command", "")), part(record, "model").get("source") or _model_of(run)
    except UsageError as e:
        return RunLine(run.name, "", "", "", DAMAGED, str(e))
    date = began[:16].replace("T", " ")
    try:
        return RunLine(run.name, kind, str(model or ""), date, state_of(run), open_run(run).headline)
    except UsageError as e:
        state = state_of(run)
        return RunLine(run.name, kind, str(model or ""), date, state, "No row yet." if state == RUNNING else str(e))


def state_of(run: Path) -> str:
    """Whether a run is finished, at work, or was stopped before its end."""
    if is_open(run):
        return RUNNING
    return FINISHED if (run / "summary.json").is_file() else STOPPED


def stamp_of(run: Path) -> tuple[int, ...]:
    """When each file that a report is made of was written, in the run and in the parts of an audit."""
    places = [run, *(run / name for name in PARTS)]
    files = [place / name for place in places for name in FILES] + [run / "gate" / "verdict.json"]
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)


def _began(run: Path) -> str:
    """When a run was begun, in UTC; when its record was written, where that says nothing."""
    try:
        told = read_json(run / "run.json").get("started")
        return datetime.fromisoformat(str(told)).isoformat()
    except (UsageError, ValueError):
        written = (run / "run.json").stat().st_mtime
        return datetime.fromtimestamp(written).astimezone().isoformat(timespec="seconds")


def _model_of(run: Path) -> Any:
    """The model of an audit, as its first part has it."""
    for name in PARTS:
        if (run / name / "run.json").is_file():
            return part(read_json(run / name / "run.json"), "model").get("source")
    return None
