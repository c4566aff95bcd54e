"""Runs as one HTML page that opens anywhere: everything embedded, nothing loaded, every caption escaped."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.report import detect, detections, explain
from mnemoscope.report.command import command_lines
from mnemoscope.report.kinds import KINDS
from mnemoscope.report.pictures import data_uri
from mnemoscope.report.reading import headline, notes, parts, read
from mnemoscope.report.record import Card, Record, Row, Section
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.asked import parameters
from mnemoscope.run.writing import write_whole

COMPARED = {"detect": detect.compare, "explain": explain.compare}
ORDER = (
    "finetune.html",
    "methods.html",
    "repair.html",
    "neurons.html",
    "rewrites.html",
    "curves.html",
    "experiment.html",
    "emm_sweep.html",
    "emm_train.html",
    "watched.html",
    "previews.html",
    "sheets.html",
    "recovered.html",
    "measures.html",
    "neighbours.html",
    "emm_images.html",
    "pairs.html",
    "regions.html",
    "gallery.html",
    "words.html",
    "scores.html",
    "scores_compared.html",
)
# of runs without a model: its name, the setting with it
SUBJECTS = (("Images", "generated"), ("Index", "index"), ("File", "file"), ("Images", "data"))
Groups = dict[str, list[Record]]


def write(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of the runs as one self-contained HTML file, and its plots under each run's `plots/`.

    Without `out` it is `report.html` in the first run's folder; the file is whole or not there at all.
    Raises UsageError for no run, a folder that is not a readable run, or a place that cannot be written.
    """
    if not runs:
        raise UsageError("No run was given; give the folder of at least one run.")
    groups = {name: _join([read(path) for path in parts(run)]) for name, run in zip(_names(runs), runs, strict=True)}
    target = out or runs[0] / "report.html"
    try:
        views = [_view(run, name, records) for run, (name, records) in zip(runs, groups.items(), strict=True)]
        page = _page(groups=views, comparisons=_comparisons(runs[0], groups))
        write_whole(target, page.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"The report cannot be written ({error}); give a file in a folder that can be.") from None
    return target


def _names(runs: Sequence[Path]) -> list[str]:
    """What the page calls each run: its folder's name, its path, or its path and place, whichever tells them apart."""
    numbered = [f"{run} ({place})" for place, run in enumerate(runs, 1)]
    choices = ([run.resolve().name for run in runs], [str(run) for run in runs], numbered)
    return next(names for names in choices if len(set(names)) == len(runs))


def _join(records: list[Record]) -> list[Record]:
    """Give images what the detector of the same audit said of their prompts, where their own rows do not say it."""
    known = {row["prompt_id"]: row for record in records for row in record.ranked if record.command == "detect"}
    for row in (row for record in records if record.command == "generate" for row in record.done):
        found = known.get(row["prompt_id"], {})
        row |= {key: found.get(key) for key in ("score", "flagged", "label", "kind") if row.get(key) is None}
    return records


def _view(run: Path, name: str, records: list[Record]) -> Row:
    """All that the page shows of one run, or of the runs of an audit."""
    kinds = [(record, KINDS[record.command]) for record in records]
    sections = [section for record, kind in kinds for section in kind.sections(record)]
    said = [note for record in records for note in notes(record)]
    if records[0].path != run and len(records) < 2:
        said.append(f"Only the {records[0].command} run of this audit has rows: it was interrupted or is still going.")
    return {
        "name": name,
        "records": [(record, headline(record)) for record in records],
        "under": _under(records),
        "commands": command_lines(run, records),
        "about": [each for record, kind in kinds for each in kind.about(record)],
        "cards": [card for record, kind in kinds for card in kind.cards(record)] + list(map(_work, records)),
        "plots": [plot for record in records for plot in _plots(record)],
        "sections": sorted(sections, key=lambda section: ORDER.index(section.template)),
        "notes": list(dict.fromkeys([*said, *(note for section in sections for note in section.notes)])),
        "caveats": list(dict.fromkeys(caveat for record, kind in kinds for caveat in kind.caveats(record))),
    }


def _under(records: list[Record]) -> list[str]:
    """Model, methods and sampling, as the line below the headline."""
    first, settings = records[0], {**records[0].part("source"), **parameters(records[0].info)}
    model = first.part("model").get("source")
    name, key = next((each for each in SUBJECTS if each[1] in settings and not model), ("Model", ""))
    said = [f"{name} {model or settings.get(key) or 'not recorded'}"]
    said += [f"method {record.method}" for record in records if record.part("method")]
    said += [f"methods {', '.join(record.part('methods'))}" for record in records if record.part("methods")]
    if steps := settings.get("num_inference_steps"):
        said.append(f"{steps} sampling steps")
    if settings.get("guidance_scale") is not None:
        said.append(f"guidance {settings['guidance_scale']}")
    return said


def _work(record: Record) -> Card:
    """What a run cost; an empty card where that is not recorded."""
    evaluations, seconds = (number(record.summary.get(key)) for key in ("network_evaluations", "seconds"))
    if not evaluations:
        return "", "", ""
    took = "" if seconds is None else f", in {seconds:,.0f} s"
    return f"Evaluations, {record.title}", f"{evaluations:,.0f}", f"of the network{took}"


def _plots(record: Record) -> list[Row]:
    """The figures of a run, saved under its `plots/`: title, what to look for, data URI, whether it needs room."""
    made = []
    for name, title, hint, figure in KINDS[record.command].drawings(record):
        data = plots.kept(figure, record.path / "plots" / f"{name}.png")
        uri, is_wide = data_uri(data, "png"), figure.get_figwidth() > 7
        made.append({"title": title, "hint": hint, "uri": uri, "is_wide": is_wide})
    return made


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


def _page(**content: Any) -> str:
    pages = Environment(
        loader=PackageLoader("mnemoscope.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.globals |= {"counted": counted, "number": number, "percent": percent, "arxiv": _arxiv}
    pages.globals |= {"shown": shown, "interval": interval}
    script = pages.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return pages.get_template("report.html").render(script=script, digest=digest, **content)


def _arxiv(paper: object) -> str | None:
    """The address of a paper that is named by its arXiv number."""
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})", str(paper))
    return f"https://arxiv.org/abs/{found[1]}" if found else None
