"""Runs of several methods: what each tells apart, side by side, and the prompts with all their scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from mnemoscope import plots
from mnemoscope.report import detect
from mnemoscope.report.record import Card, Drawings, Record, Section
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, ends, interval, number, percent, shown
from mnemoscope.run import several
from mnemoscope.run.reading import Json

TABLE_ROWS = detect.TABLE_ROWS


def check(raw: Json) -> Json:
    """A row of one of the methods, with its series; without a score it has failed."""
    return detect.check(raw) | {"method": str(raw.get("method") or "")}


def split(record: Record) -> dict[str, Record]:
    """By name the run that each method alone would make."""
    return {
        name: Record(
            record.path,
            several.record_of(record.info, name),
            several.summary_of(record.summary, name),
            [row for row in record.rows if row["method"] == name],
        )
        for name in record.part("methods")
    }


def headline(record: Record) -> str:
    """How many prompts look memorized to all methods, and to some of them."""
    methods, rows = split(record), _prompts(record, negatives=False)
    prompts, known = counted(len(rows), "prompt"), _calibrated(methods)
    if not known:
        return f"{prompts} ranked by {len(methods)} methods; no threshold was set, so nothing is flagged."
    every = sum(row["flags"] == len(known) for row in rows)
    some = sum(0 < row["flags"] < len(known) for row in rows)
    verb = "looks" if every == 1 else "look"
    more = f", and {some:,} to some of them but not to all" if some else ""
    which = f"all {len(known)} methods" if len(known) > 1 else known[0]
    return f"{every:,} of {prompts} {verb} memorized to {which}{more}."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What each method's score means."""
    return [(f"What {name} means", *each[1:]) for name, one in split(record).items() for each in detect.about(one)]


def cards(record: Record) -> list[Card]:
    """How well each method tells the prompts apart; where none can say it, how many prompts each flags."""
    methods = split(record)
    made = [
        (f"AUC of {name}", shown(one.summary["auc"], "{:.3f}"), interval(one.summary.get("auc_interval"), "{:.3f}"))
        for name, one in methods.items()
        if number(one.summary.get("auc")) is not None
    ]
    return made or [(f"Flagged by {n}", _flagged(one), "") for n, one in methods.items() if n in _calibrated(methods)]


def drawings(record: Record) -> Drawings:
    """The ROC curves side by side, and for each method what a run of it alone shows."""
    methods = split(record)
    if curves := {name: curve for name, one in methods.items() if (curve := detect.curve(one))}:
        hint = "What matters is the curves near 1 %, where few ordinary prompts are accused."
        labelled = "Found" if record.labelled else "Flagged"
        yield "roc", f"{labelled} against false alarms", hint, plots.roc_plot(curves)
    for name, one in methods.items():
        for stem, title, hint, figure in detect.drawings(one):
            if stem != "roc":
                yield f"{stem}-{name}", f"{title}: {name}", hint, figure


def sections(record: Record) -> list[Section]:
    """The methods side by side, the prompts under test, and the ordinary ones, both cut to what a page can carry."""
    methods = split(record)
    made = [Section("methods.html", {"methods": methods, "labelled": record.labelled})]
    titles = {"Prompts by all methods": False, "Ordinary prompts that set the thresholds": True}
    scales = [_scale(name, one) for name, one in methods.items()]
    for title, negatives in titles.items():
        if rows := _prompts(record, negatives=negatives):
            content = {"title": title, "total": len(rows), "rows": rows[:TABLE_ROWS], "scales": scales}
            made.append(Section("scores_compared.html", content | {"known": bool(_calibrated(methods))}))
    return made


def caveats(record: Record) -> list[str]:
    """What a score does not say."""
    return detect.CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """What each method tells apart."""
    found = "found at 1 %" if record.labelled else "flagged at 1 %"
    rows = [
        [
            name,
            _flagged(one),
            shown(one.summary.get("threshold")),
            _with_ends(one.summary, "auc", "{:.3f}"),
            _with_ends({k: percent(v) for k, v in one.summary.items() if "1_fpr" in k}, "tpr_at_1_fpr", "{:.0f} %"),
        ]
        for name, one in split(record).items()
    ]
    columns = [("method", "left"), *((n, "right") for n in ("flagged", "threshold", "AUC", f"{found} false alarms"))]
    return terminal_table(columns, rows)


def _with_ends(summary: Mapping[str, Any], key: str, form: str) -> str:
    """A rate with the ends of its interval."""
    low_high = ends(summary.get(f"{key}_interval"))
    said = f" ({form.format(low_high[0])} to {form.format(low_high[1])})" if low_high else ""
    return f"{shown(summary.get(key), form)}{said}"


def _flagged(one: Record) -> str:
    """How many of the prompts a method flags."""
    if number(one.summary.get("threshold")) is None:
        return "–"
    return f"{sum(row.get('flagged') is True for row in one.ranked):,} of {len(one.ranked):,}"


def _calibrated(methods: Mapping[str, Record]) -> list[str]:
    """The methods that have a threshold."""
    return [name for name, one in methods.items() if number(one.summary.get("threshold")) is not None]


def _scale(name: str, one: Record) -> Json:
    """Where a method's bars begin and end, and where its threshold lies between."""
    return detect.scale(one) | {"method": name}


def _prompts(record: Record, *, negatives: bool) -> list[Json]:
    """One row a prompt with a score of each method or none: those that more methods flag first, then by mean rank."""
    names = list(record.part("methods"))
    rows: dict[str, Json] = {}
    for row in record.done:
        if (row.get("role") == "negative") == negatives:
            shared = {key: row.get(key) for key in ("prompt", "kind", "label")}
            rows.setdefault(row["prompt_id"], shared | {"by": {}})["by"][row["method"]] = row
    scores = [{key: row["by"][name]["score"] for key, row in rows.items() if name in row["by"]} for name in names]
    ranks, made = list(map(_ranks, scores)), []
    for key, row in rows.items():
        own = [rank[key] for rank in ranks if key in rank]
        flags = sum(each.get("flagged") is True for each in row["by"].values())
        made.append(row | {"cells": [row["by"].get(n) for n in names], "flags": flags, "rank": float(np.mean(own))})
    return sorted(made, key=lambda row: (-row["flags"], row["rank"]))


def _ranks(scores: Mapping[str, float]) -> dict[str, float]:
    """The place of each prompt from the highest score down, as a share of all; equal scores have one place."""
    values: Sequence[float] = sorted(scores.values())
    above = len(values) - np.searchsorted(values, list(scores.values()), side="right")
    return dict(zip(scores, (above / max(1, len(values))).tolist(), strict=True))
