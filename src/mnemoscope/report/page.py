"""Runs as one HTML page that opens anywhere: everything embedded, nothing loaded, every caption escaped."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader

from mnemoscope.errors import UsageError
from mnemoscope.report import detect, detections, explain
from mnemoscope.report.reading import read_all
from mnemoscope.report.record import Record, Section
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.report.view import view
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import clean_beside, write_whole

COMPARED = {"detect": detect.compare, "explain": explain.compare}
Groups = dict[str, list[Record]]


def write(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of the runs as one self-contained HTML file, and its plots under each run's `plots/`.

    Without `out` it is `report.html` in the first run's folder; the file is whole or not there at all.
    Raises UsageError for no run, a folder that is not a readable run, or a place that cannot be written.
    """
    if not runs:
        raise UsageError("No run was given; give the folder of at least one run.")
    groups = {name: read_all(run) for name, run in zip(_names(runs), runs, strict=True)}
    target = out or runs[0] / "report.html"
    with_runs = zip(runs, groups.items(), strict=True)
    try:
        views = [view(run, name, records, target.parent) for run, (name, records) in with_runs]
        save(target, views, _comparisons(runs[0], groups))
    except OSError as error:
        raise UsageError(f"The report cannot be written ({error}); give a file in a folder that can be.") from None
    return target


@cache
def templates() -> Environment:
    """The templates of pages, each compiled once in a process."""
    pages = Environment(
        loader=PackageLoader("mnemoscope.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.globals |= {"counted": counted, "number": number, "percent": percent, "arxiv": _arxiv}
    pages.globals |= {"shown": shown, "interval": interval}
    return pages


def save(target: Path, views: Sequence[Json], comparisons: Sequence[Section] = (), title: str = "report") -> None:
    """Write views as one page."""
    pages = templates()
    script = pages.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content: Json = {"groups": views, "comparisons": comparisons, "title": title}
    page = pages.get_template("report.html").render(script=script, digest=digest, **content)
    clean_beside(target)
    write_whole(target, page.encode("utf-8", "replace"))


def _names(runs: Sequence[Path]) -> list[str]:
    """What the page calls each run: its folder's name, its path, or its path and place, whichever tells them apart."""
    numbered = [f"{run} ({place})" for place, run in enumerate(runs, 1)]
    choices = ([run.resolve().name for run in runs], [str(run) for run in runs], numbered)
    return next(names for names in choices if len(set(names)) == len(runs))


def _comparisons(folder: Path, groups: Groups) -> list[Section]:
    """What runs of one kind say side by side, for each kind that there are two of or more."""
    made = []
    named = [(name, record) for name, records in groups.items() for record in records]
    every = [(f"{name}, {m}" if m else name, one) for name, record in named for m, one in _each_method(record).items()]
    for command, compare in COMPARED.items():
        found = [(name, record) for name, record in every if record.command == command and len(named) > 1]
        methods = [record.method for _, record in found]
        names = methods if len(set(methods)) == len(found) else [name for name, _ in found]
        if len(found) > 1:
            made.append(compare(folder, found, names))
    return made


def _each_method(record: Record) -> dict[str, Record]:
    """A run as it is; one of several methods as one of each."""
    return detections.split(record) if record.command == "detections" else {"": record}


def _arxiv(paper: object) -> str | None:
    """The address of a paper that is named by its arXiv number."""
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})", str(paper))
    return f"https://arxiv.org/abs/{found[1]}" if found else None
