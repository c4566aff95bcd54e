"""Detect runs: scores, ROC, score along sampling, prompts by score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from mnemoscope import plots
from mnemoscope.report.pictures import data_uri
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed
from mnemoscope.report.tables import flag
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

TABLE_ROWS = 1000
CAVEATS = [
    "A low score does not prove that a prompt is safe: other seeds, wordings or settings may still bring out a "
    "training image.",
    "A high score is a reason to look, not a verdict: compare images with training data before acting on it.",
    "The threshold holds only for the conditions recorded below: model, scheduler, steps, guidance, resolution and "
    "number type.",
]
UNITS = {
    "eps": "Scores are in units of eps, the predicted noise.",
    "x0": "Scores are in units of x0, the predicted clean image.",
}


def check(raw: Json) -> Json:
    """A row with its series; without a score it has failed."""
    row = checked(raw) | {key: listed(raw.get(key)) for key in ("seeds", "series", "timesteps")}
    return row if row["score"] is not None else failed(row, f"the score is {raw.get('score')!r}, not a finite number")


def headline(record: Record) -> str:
    """How many prompts look memorized, and where the threshold comes from."""
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


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the score means."""
    method = record.part("method")
    unit = UNITS.get(_units(record) or "")
    said = f"Higher means more memorized. {unit}" if unit else "Higher means more memorized."
    return [("What the score means", method, said)] if method else []


def cards(record: Record) -> list[Card]:
    """Flagged prompts, AUC, and prompts found at few false alarms."""
    s, ranked = record.summary, record.ranked
    flagged = sum(row.get("flagged") is True for row in ranked)
    of = f"of {counted(len(ranked), 'prompt')}, score at least {shown(s.get('threshold'))}"
    if number(s.get("threshold")) is not None:
        made = [("Flagged", str(flagged), of)]
    else:
        made = [("Ranked", str(len(ranked)), "prompts, none flagged: no threshold")]
    if number(s.get("auc")) is not None:
        told = "" if record.labelled else " from ordinary prompts"
        ends = interval(s.get("auc_interval"), "{:.3f}")
        made.append(
            (f"How well told apart{told} (AUC)", shown(s["auc"], "{:.3f}"), f"1 is perfect, 0.5 chance; {ends}")
        )
    for p in (1, 3, 5):
        if number(rate := s.get(f"tpr_at_{p}_fpr")) is not None:
            ends = interval(percent(s.get(f"tpr_at_{p}_fpr_interval")), "{:.0f}", " %")
            name = f"{'Found' if record.labelled else 'Flagged'} at {p} % false alarms"
            made.append((name, shown(percent(rate), "{:.0f} %"), ends))
    if number(strict := s.get("tpr_below_1_fpr")) is not None:
        made.append(
            ("Flagged below 1 % false alarms", shown(percent(strict), "{:.0f} %"), "strictly, as Wen et al. count")
        )
    return made


def drawings(record: Record) -> Drawings:
    """How the scores of the classes spread, the ROC curve, and the score along sampling."""
    memorized, ordinary, unlabelled = _classes(record)
    if record.done:
        threshold = number(record.summary.get("threshold"))
        names = {"unlabelled": "prompts under test"} if not memorized.size else {}
        groups = (memorized, ordinary, threshold)
        figure = plots.density_plot(*groups, unlabelled=unlabelled, label=_axis(record), names=names)
        yield "scores", "Scores", "The less the classes overlap, the better the score tells them apart.", figure
    if scored := curve(record):
        hint = "What matters is the curve near 1 %, where few ordinary prompts are accused."
        title = f"{'Found' if memorized.size else 'Flagged'} against false alarms"
        yield "roc", title, hint, plots.roc_plot({record.method: scored})
    rows = record.done
    if by_step := not any(row["timesteps"] for row in rows):  # of a code that keeps none
        rows = [row | {"timesteps": _numbers(row["series"])} for row in rows]
    rows = [row for row in rows if row["timesteps"] and row["series"]]
    if any(len(row["timesteps"]) > 1 for row in rows):
        several = "Median over prompts; the band holds the middle 80 %; thin lines are single images."
        hint = several if len(rows) > 1 else "A line for each image."
        figure = plots.series_plot(rows, label=_axis(record), by_step=by_step)
        yield "series", "Score along sampling", hint, figure


def sections(record: Record) -> list[Section]:
    """The prompts under test, and the ordinary ones that set the threshold, both cut to what a page can carry."""
    titles = {"Prompts by score": record.ranked, "Ordinary prompts that set the threshold": record.negatives}
    shared = scale(record) | {"method": record.method}
    contents = [shared | {"title": t, "total": len(r), "rows": r[:TABLE_ROWS]} for t, r in titles.items() if r]
    return [Section("scores.html", content) for content in contents]


def scale(record: Record) -> Json:
    """Where the bars of the scores begin, how far they reach, and in percent where the threshold lies between."""
    threshold, scores = number(record.summary.get("threshold")), [0.0, *(row["score"] for row in record.done)]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    tick = None if threshold is None else float(np.clip(100 * (threshold - low) / span, 0, 100))
    return {"low": low, "span": span, "tick": tick}


def caveats(record: Record) -> list[str]:
    """What a score does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The highest scores."""
    rows = [[shown(row["score"]), flag(row["flagged"]), row["prompt"]] for row in record.ranked[:limit]]
    columns = [(record.method, "right"), ("flagged", "left"), ("prompt", "fill")]
    return terminal_table(columns, rows) if rows else None


def compare(folder: Path, found: Sequence[tuple[str, Record]], names: Sequence[str]) -> Section:
    """Several detect runs side by side: one table, one picture of all ROC curves."""
    curves = {name: pair for name, (_, record) in zip(names, found, strict=True) if (pair := curve(record))}
    data = plots.kept(plots.roc_plot(curves), folder / "plots" / "comparison.png") if curves else None
    scored = {frozenset((row["prompt"], row.get("role")) for row in record.done) for _, record in found}
    plot = data and data_uri(data, "png")
    return Section("comparison.html", {"runs": found, "plot": plot, "same": len(scored) == 1})


def _numbers(series: list[Any]) -> list[int]:
    """The steps of a series, counted from 1."""
    return list(range(1, 1 + len(listed(series[0])))) if series else []


def _units(record: Record) -> str | None:
    """The unit of the scores, as the run says; None where it says none."""
    places = (record.summary, *record.done[:1])
    return next((unit for place in places if isinstance(unit := place.get("units"), str)), None)


def _axis(record: Record) -> str:
    """The name of the score with its unit."""
    return f"{record.method} (units of {unit})" if (unit := _units(record)) in UNITS else record.method


def _classes(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of memorized, ordinary and unlabelled prompts."""
    named = [(plots.class_of(row).split(", ")[-1], row["score"]) for row in record.done]
    memorized, ordinary, unlabelled = (
        np.array([score for its, score in named if its == name], float)
        for name in ("memorized", "ordinary", "unlabelled")
    )
    return memorized, ordinary, unlabelled


def curve(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """The two groups of the summary's AUC: labelled prompts or else all under test, against ordinary ones."""
    memorized, ordinary, unlabelled = _classes(record)
    positive = memorized if memorized.size else unlabelled
    return (positive, ordinary) if positive.size and ordinary.size else None
