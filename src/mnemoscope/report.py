"""Runs as one HTML page that opens anywhere: everything embedded, nothing loaded, every caption escaped."""

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.gallery import data_uri, gallery
from mnemoscope.headline import Record, Row, command_lines, counted, headline, number, parts, read
from mnemoscope.stats import mean_interval

TABLE_ROWS = 1000
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
        page = _page(groups=views, comparison=_comparison(runs[0], groups))
        _replace(target, page.encode("utf-8", "replace"))
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
    """All that the page shows of one run, or of the two runs of an audit."""
    detected = [record for record in records if record.command == "detect"]
    blocks, notes = gallery(records)
    recorded = [str(note) for record in records for note in [*record.notes, *(record.summary.get("notes") or [])]]
    if records[0].path != run and len(records) < 2:
        notes.append(f"Only the {records[0].command} run of this audit has rows: it was interrupted or is still going.")
    return {
        "name": name,
        "records": [(record, headline(record)) for record in records],
        "commands": command_lines(run, records),
        "detected": detected,
        "similarities": [_mean(*item) for record in records for item in _similarities(record, per_prompt=True).items()],
        "plots": [plot for record in records for plot in _plots(record)],
        "gallery": blocks,
        "tables": [table for record in detected for table in _tables(record)],
        "notes": list(dict.fromkeys(recorded + notes)),
    }


def _mean(name: str, values: np.ndarray) -> tuple[str, int, float, tuple[float, float] | None]:
    return name, values.size, float(values.mean()), mean_interval(values) if values.size > 1 else None


def _similarities(record: Record, per_prompt: bool = False) -> dict[str, np.ndarray]:
    """Similarities to the nearest reference by what the detector said: of each image, or the mean of each prompt."""
    found: dict[str, dict[Any, list[float]]] = {}
    names = {"True": "flagged", "False": "not flagged"}
    for index, row in enumerate(record.done):
        if row["similarity"] is not None:
            one = row["prompt_id"] if per_prompt else index
            found.setdefault(names.get(str(row.get("flagged")), "all"), {}).setdefault(one, []).append(
                row["similarity"]
            )
    return {name: np.array([np.mean(each) for each in found[name].values()]) for name in sorted(found)}


def _plots(record: Record) -> list[tuple[str, str, str]]:
    """The figures of a run, saved under its `plots/`: title, what to look for, data URI."""
    made = []
    for name, title, hint, figure in _detect_figures(record) if record.command == "detect" else _image_figures(record):
        made.append(
            (title, hint, data_uri(plots.save(figure, record.path / "plots" / f"{name}.png").read_bytes(), "png"))
        )
    return made


def _detect_figures(record: Record) -> Iterator[tuple[str, str, str, Figure]]:
    memorized, ordinary, unlabelled = _classes(record)
    if record.done:
        threshold = number(record.summary.get("threshold"))
        names = {"unlabelled": "prompts under test"} if not memorized.size else {}
        groups = (memorized, ordinary, threshold)
        figure = plots.density_plot(*groups, unlabelled=unlabelled, label=record.method, names=names)
        yield "scores", "Scores", "The less the classes overlap, the better the score tells them apart.", figure
    if curve := _curve(record):
        hint = "What matters is the curve near 1 %, where few ordinary prompts are accused."
        title = f"{'Found' if memorized.size else 'Flagged'} against false alarms"
        yield "roc", title, hint, plots.roc_plot({record.method: curve})
    if any(len(row.get("timesteps") or ()) > 1 and row.get("series") for row in record.done):
        hint = "Median over prompts; the band holds the middle 80 %."
        yield "series", "Score along sampling", hint, plots.series_plot(record.done, label=record.method)


def _image_figures(record: Record) -> Iterator[tuple[str, str, str, Figure]]:
    values, none = _similarities(record), np.empty(0)
    if values:
        names = {"memorized": "flagged", "ordinary": "not flagged", "unlabelled": "images"}
        groups = (values.get("flagged", none), values.get("not flagged", none))
        label = "similarity to the nearest reference (cosine)"
        figure = plots.density_plot(*groups, unlabelled=values.get("all"), label=label, log=False, names=names)
        yield "similarity", "Similarity of images to references", "Near 1 an image is a copy.", figure


def _classes(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of memorized, ordinary and unlabelled prompts."""
    named = [(plots.class_of(row).split(", ")[-1], row["score"]) for row in record.done]
    memorized, ordinary, unlabelled = (
        np.array([score for its, score in named if its == name], float)
        for name in ("memorized", "ordinary", "unlabelled")
    )
    return memorized, ordinary, unlabelled


def _curve(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """The two groups of the summary's AUC: labelled prompts or else all under test, against ordinary ones."""
    memorized, ordinary, unlabelled = _classes(record)
    positive = memorized if memorized.size else unlabelled
    return (positive, ordinary) if positive.size and ordinary.size else None


def _tables(record: Record) -> list[Row]:
    """The prompts under test, and the ordinary ones that set the threshold, both cut to what a page can carry."""
    titles = {"Prompts by score": record.ranked, "Ordinary prompts that set the threshold": record.negatives}
    threshold, scores = number(record.summary.get("threshold")), [0.0, *(row["score"] for row in record.done)]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    tick = None if threshold is None else float(np.clip(100 * (threshold - low) / span, 0, 100))
    shared = {"low": low, "span": span, "tick": tick, "method": record.method}
    return [shared | {"title": t, "total": len(r), "rows": r[:TABLE_ROWS]} for t, r in titles.items() if r]


def _comparison(folder: Path, groups: Groups) -> Row | None:
    """Several detect runs side by side: one table, one picture of all ROC curves; None for fewer than two."""
    found = [(name, record) for name, records in groups.items() for record in records if record.command == "detect"]
    if len(found) < 2:
        return None
    methods = [record.method for _, record in found]
    names = methods if len(set(methods)) == len(found) else [name for name, _ in found]
    curves = {name: pair for name, (_, record) in zip(names, found, strict=True) if (pair := _curve(record))}
    path = plots.save(plots.roc_plot(curves), folder / "plots" / "comparison.png") if curves else None
    scored = {frozenset((row["prompt"], row.get("role")) for row in record.done) for _, record in found}
    return {
        "runs": found,
        "plot": path and data_uri(path.read_bytes(), "png"),
        "same": len(scored) == 1,
    }


def _page(**content: Any) -> str:
    pages = Environment(loader=PackageLoader("mnemoscope"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.globals |= {"counted": counted, "number": number, "percent": _percent, "arxiv": _arxiv}
    script = pages.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return pages.get_template("report.html").render(script=script, digest=digest, **content)


def _percent(value: object) -> Any:
    if isinstance(value, list):
        return [_percent(each) for each in value]
    return None if (share := number(value)) is None else 100 * share


def _arxiv(paper: object) -> str | None:
    """The address of a paper that is named by its arXiv number."""
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})", str(paper))
    return f"https://arxiv.org/abs/{found[1]}" if found else None


def _replace(path: Path, data: bytes) -> None:
    """Write a file by its whole content, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
