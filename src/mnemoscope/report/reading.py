"""Run folders read from disk: what a crash or an editor did to them is noted or refused."""

from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.pictures.counting import sentences
from mnemoscope.report.groups import joined
from mnemoscope.report.kinds import KINDS
from mnemoscope.report.record import Record
from mnemoscope.report.text import counted
from mnemoscope.run.parts import PARTS
from mnemoscope.run.reading import Json, is_torn
from mnemoscope.run.run import read_json, read_record, read_rows


def parts(run: Path) -> list[Path]:
    """The run folders behind a path: itself, or the folders of an audit's parts.

    Raises UsageError for a folder that holds neither.
    """
    if not run.is_dir():
        raise UsageError(f"{run} is not a folder; give the folder that a run wrote.")
    is_audit = not (run / "run.json").is_file() or read_json(run / "run.json").get("command") == "audit"
    found = [run / name for name in PARTS if (run / name / "rows.jsonl").is_file()]
    if is_audit and not found:
        raise UsageError(f"{run} holds no run, nor do its folders detect and generate; give a run's folder.")
    return found if is_audit else [run]


def read(run: Path) -> Record:
    """A run that a report can show, read from its folder.

    A line of rows.jsonl that a crash cut short is left out and noted. Raises UsageError for a missing or broken file.
    """
    info = read_record(run)
    if info["command"] not in KINDS:
        known = ", ".join(KINDS)
        raise UsageError(f"{run} is a run of {info['command']!r}; a report shows {known} and audit runs.")
    file, notes = run / "rows.jsonl", []
    if not file.is_file():
        raise UsageError(f"{file} is not there; give the folder that a run wrote.")
    if is_torn(file):
        notes.append("The last line of rows.jsonl was cut short, as by a crash: 1 row was left out.")
    if not (rows := read_rows(run)):
        raise UsageError(f"{file} holds no rows; run the command to its end, or give another run.")
    summary: Json = {}
    if (run / "summary.json").is_file():
        summary = read_json(run / "summary.json")
    else:
        notes.append(f"The {info['command']} run has no summary.json: it was interrupted or is still going.")
    check = KINDS[info["command"]].check
    return Record(run, info, summary, [check(dict(row)) for row in rows], notes)


def read_all(run: Path) -> list[Record]:
    """The runs behind a path, the images of an audit with what its detection said of their prompts."""
    return joined([read(path) for path in parts(run)])


def headline(record: Record) -> str:
    """The result of a run in one plain sentence, and a second one if something failed."""
    told = KINDS[record.command].headline(record)
    failed = len(record.failures)
    return f"{told} {counted(failed, 'row')} failed." if failed else told


def notes(record: Record) -> list[str]:
    """What was wrong with a run's files, and what its summary notes."""
    said = record.summary.get("notes")
    counted = sentences(record.summary)
    return [str(note) for note in [*record.notes, *counted, *(said if isinstance(said, list) else [])]]
