"""The command that makes a run again, as the run recorded it."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemoscope.report.record import Record, listed, part
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json


def command_lines(run: Path, records: Sequence[Record]) -> list[str]:
    """The commands that make the runs behind a path again: one for a whole audit."""
    whole = run / "run.json"
    infos: list[Any] = [read_json(whole)] if whole.is_file() else [record.info for record in records]
    return [line for line in dict.fromkeys(map(command_line, infos)) if line]


def command_line(info: Json) -> str:
    """The command that made a run, into another folder; empty for a run that was made from Python."""
    words = [str(word) for word in listed(part(info, "asked").get("words"))]
    return shlex.join(["mnemoscope", *words, "--out", "DIR"]) if words else ""
