"""Benches: methods side by side on models of which it is known what they were trained on."""

import re
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, grouped, listed
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

CAVEATS = [
    "Figures whose intervals overlap are not told apart by this bench.",
    "A small model that was made to memorize shows the order of methods on it; whether a large one keeps it is open.",
    "Intervals draw pictures anew; the model is one training, and another one may differ by more.",
]
COPIED = 0.25  # share of copies without a mitigation, from which on there is something to mitigate
COLUMNS = 5  # of a table in a terminal


def check(raw: Json) -> Json:
    """A row with its model, method, strength and figures."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("model", "method", "at", "left_out")}
    figures = [_figure(each) for each in listed(raw.get("figures")) if isinstance(each, dict)]
    return row | {"figures": figures}


def headline(record: Record) -> str:
    """How many methods on which models, and how many do not run."""
    models, methods = (list(dict.fromkeys(row[key] for row in record.done)) for key in ("model", "method"))
    left = sum(bool(row["left_out"]) for row in record.done)
    lost = f" {counted(left, 'method')} left out, with the reason in the table." if left else ""
    whole = "" if _tables(record) else " It stopped before its end; the same command goes on."
    return f"{counted(len(methods), 'method')} on {' and '.join(models)}, side by side.{lost}{whole}"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What is held against what."""
    told = "Each method ran on every prompt of the ground truth, in a run of its own in the folder cells."
    return [("How methods are compared", {}, f"{told} Intervals are 95 % bootstraps over pictures.")]


def cards(record: Record) -> list[Card]:
    """How much was known of each model."""
    truths = record.summary.get("truths")
    known = truths.items() if isinstance(truths, dict) else ()
    return [
        (f"Prompts of {name}", shown(each.get("prompts"), "{:,.0f}"), "whose training is known")
        for name, each in known
        if isinstance(each, dict)
    ]


def drawings(record: Record) -> Drawings:
    """The share found, or copied, by the number of views, and copying against alignment where there are strengths."""
    yield from _tradeoffs(record)
    for (model, kind), own in _by_dose(record).items():
        if any(len(points) > 1 for points in own.values()):
            title = f"{kind.capitalize()} pictures of {model} by their views"
            hint = "Left of the line of copied-images: found at fewer views than it takes to be copied."
            yield (
                _file(f"doses-{model}-{kind}"),
                title,
                hint,
                plots.doses_plot(own, y="share", x="views in training", base=2),
            )


def _tradeoffs(record: Record) -> Drawings:
    """Copies against alignment along the strengths, a figure for each model and group that is copied without any."""
    for model, rows in grouped(record.done, lambda row: row["model"]).items():
        points: dict[str, list[Json]] = {}
        for row in rows:
            own = {(each["quantity"], each["group"]): each for each in row["figures"]}
            for (quantity, group), aligned in own.items():
                copied = own.get(("share", group))
                if quantity == "aligned" and copied is not None:
                    points.setdefault(group, []).append(_point(row, aligned, copied))
        for group, found in points.items():
            if any(each["mitigation"] == "none" and (each["replication_rate"] or 0) >= COPIED for each in found):
                labels = ("share that shows its object", "share that is a copy")
                figure = plots.tradeoff_plot(found, y="replication_rate", labels=labels)
                hint = "Lower copies less, further right shows more; numbers are strengths."
                yield _file(f"strengths-{model}-{group}"), f"{group.capitalize()} of {model}", hint, figure


def _point(row: Json, aligned: Json, copied: Json) -> Json:
    """A strength as a plot of curves takes it; without a mitigation all methods have the same one."""
    method = "none" if row["at"] == "none" else row["method"]
    return {
        "mitigation": method,
        "strength": row["at"].rpartition(" ")[2],
        "alignment_mean": aligned["value"],
        "alignment_interval": aligned["interval"],
        "replication_rate": copied["value"],
        "replication_interval": copied["interval"],
    }


def _file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def sections(record: Record) -> list[Section]:
    """The tables."""
    made = _tables(record)
    return [Section("bench.html", {"tables": made})] if made else []


def caveats(record: Record) -> list[str]:
    """What a bench does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The last columns of the first table, which hold the largest doses."""
    for found in _tables(record)[:1]:
        heads = found["columns"][-COLUMNS:]
        columns = [("model", "left"), ("method", "fill"), *((head, "right") for head in heads)]
        return terminal_table(columns, [_line(row, len(heads)) for row in found["rows"]], wrap=True)
    return None


def _line(row: Json, width: int) -> list[str | Text]:
    texts = [cell["text"].partition(" [")[0] or "-" for cell in row["cells"][-width:]]
    if row["left_out"]:
        texts = ["left out", *[""] * (width - 1)]
    return [row["model"], f"{row['method']} {row['at']}".strip(), *texts]


def _tables(record: Record) -> list[Json]:
    """The tables of the summary, as far as they are whole."""
    made: list[Json] = []
    for each in listed(record.summary.get("tables")):
        heads = [str(head) for head in listed(each.get("columns"))] if isinstance(each, dict) else []
        if heads:
            rows = [_row(row, len(heads)) for row in listed(each.get("rows")) if isinstance(row, dict)]
            shows: Json = {"has_seconds": each.get("has_seconds") is True, "has_at": any(row["at"] for row in rows)}
            words = {key: str(each.get(key) or "") for key in ("title", "lead")}
            made.append({**words, **shows, "columns": heads, "rows": rows})
    return made


def _row(raw: Json, width: int) -> Json:
    found = [each if isinstance(each, dict) else {} for each in listed(raw.get("cells"))][:width]
    cells = [{"text": str(each.get("text") or ""), "value": number(each.get("value"))} for each in found]
    cells += [{"text": "", "value": None}] * (width - len(cells))
    words = {key: str(raw.get(key) or "") for key in ("model", "method", "at", "left_out")}
    return words | {"cells": cells, "seconds": number(raw.get("seconds"))}


def _figure(raw: Json) -> Json:
    ends = [number(each) for each in listed(raw.get("interval"))]
    interval = ends if len(ends) == 2 and None not in ends else None
    words = {key: str(raw.get(key) or "") for key in ("quantity", "group", "text")}
    return words | {"value": number(raw.get("value")), "interval": interval}


def _by_dose(record: Record) -> dict[tuple[str, str], dict[str, list[tuple[float, Json]]]]:
    """Shares by the views that their group names, of each method, by model and kind."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, Json]]]] = {}
    for model, rows in grouped(record.done, lambda row: row["model"]).items():
        for row in rows:
            for figure in row["figures"]:
                kind, cross, views = figure["group"].rpartition(" x ")
                if figure["quantity"] == "share" and cross and views.isdecimal() and figure["value"] is not None:
                    own = found.setdefault((model, kind), {})
                    own.setdefault(f"{row['method']} {row['at']}".strip(), []).append((float(views), figure))
    return found
