"""Measure runs: how many images are copies, how sure that is, every measure, and images beside their neighbours."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import registry
from mnemoscope.report.groups import Copies, copies, groups
from mnemoscope.report.neighbours import section as neighbours
from mnemoscope.report.record import Card, Record, Section, checked, listed, part
from mnemoscope.report.similarities import drawings
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

__all__ = ["about", "cards", "caveats", "check", "drawings", "headline", "sections", "table"]
CAVEATS = [
    "Copies are found only among the references given: a rate against a part of the training data is a lower bound.",
    "Similarities of different features, presets or weights cannot be compared, nor can thresholds be carried over.",
]
CARDS = (  # measure, key, label, form
    ("own_image", "own_mean", "Similarity to their own training picture", "{:.2f}"),
    ("background", "auroc", "Closer to training pictures than those to each other", "{:.2f}"),
    ("diversity", "pairs_median", "How alike the images of one prompt are", "{:.2f}"),
    ("alignment", "mean", "How well images show their prompt", "{:.2f}"),
)
SIMILARITIES = (
    ("similarity_mean", "Similarity to the nearest reference, mean"),
    ("similarity_p95", "Similarity that one image in 20 exceeds"),
)
MIXED = "These are over all images together, of {}: of how often the model copies they say nothing."


def check(raw: Json) -> Json:
    """A row with its neighbours and numbers."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("file", "match", "match_caption", "picture")}
    near = [each for each in listed(raw.get("neighbours")) if isinstance(each, dict)]
    return row | {"own_score": number(raw.get("own_score")), "neighbours": near}


def headline(record: Record) -> str:
    """Which share of the images are copies of references."""
    images = counted(len(record.done), "image")
    rate, limit = (number(record.summary.get(key)) for key in ("replication_rate", "threshold"))
    if rate is None or limit is None:
        return f"{images} measured; none was compared with references."
    among = counted(int(number(record.summary.get("references")) or 0), "reference")
    if len(found := copies(record)) > 1:
        said = " and ".join(f"{each.said} images of {each.group.name}" for each in found)
        return f"{said} are copies of one of {among}, at a similarity above {limit:g}."
    ends = interval(percent(record.summary.get("replication_rate_interval")), "{:.1f}", " %")
    return f"{100 * rate:.1f} % of {images} are copies of one of {among}, at a similarity above {limit:g} ({ends})."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the similarity is taken from."""
    info = record.part("features")
    said = f"Similarity is the cosine of {info.get('features')} vectors, preset {info.get('preset')}"
    said += f", weights {info.get('weights')}" if info.get("weights") != "none" else ""
    return [("What is compared", {}, f"{said}. 1 is the same picture; unrelated ones are near 0.")]


def cards(record: Record) -> list[Card]:
    """The few numbers that any study of copying gives."""
    summary, made = record.summary, []
    if len(found := copies(record)) > 1:  # no number over a mixture of prompts that somebody chose
        return [card for each in found for card in _of_group(each)]
    if (rate := number(summary.get("replication_rate"))) is not None:
        ends = interval(percent(summary.get("replication_rate_interval")), "{:.1f}", " %")
        made.append(("Copies", f"{100 * rate:.1f} %", ends))
        for key, label in SIMILARITIES:
            made.append((label, shown(summary.get(key), "{:.2f}"), interval(summary.get(f"{key}_interval"))))
    measures = part(summary, "measures")
    for name, key, label, form in CARDS:
        own = part(measures, name)
        if (value := number(own.get(key))) is not None:
            made.append((label, form.format(value), interval(own.get(f"{key}_interval"), form)))
    return made


def sections(record: Record) -> list[Section]:
    """Images beside their nearest references, and every number."""
    rows = [_measure(name, own) for name, own in part(record.summary, "measures").items() if isinstance(own, dict)]
    made = [neighbours(record)] if any(row["picture"] for row in record.done) else []
    found = groups(record.done)
    mixed = MIXED.format(" and of ".join(each.name for each in found)) if len(found) > 1 else ""
    return made + ([Section("measures.html", {"rows": rows, "mixed": mixed})] if rows else [])


def caveats(record: Record) -> list[str]:
    """What a replication rate does not say."""
    return CAVEATS if record.summary.get("references") else []


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images most similar to a reference."""
    ranked = sorted(record.done, key=lambda row: -2.0 if row["score"] is None else row["score"], reverse=True)
    rows: list[list[str | Text]] = [
        [shown(r["score"], "{:.2f}"), shown(r["own_score"], "{:.2f}"), cell(r["file"]), cell(r["match"] or "-")]
        for r in ranked[:limit]
    ]
    columns = [("similarity", "right"), ("to own", "right"), ("image", "fill"), ("nearest reference", "left")]
    return terminal_table(columns, rows) if rows else None


def _of_group(found: Copies) -> list[Card]:
    """Copies and mean similarity of one group of prompts."""
    rows, name = found.group.rows, found.group.name
    ends = interval(percent(list(found.interval)), "{:.0f}", " %")
    mean = float(np.mean([row["score"] for row in rows]))
    about = f"mean of {counted(len(rows), 'image')} of {counted(found.group.prompts, 'prompt')}"
    return [
        (f"Copies, {name}", found.said, ends),
        (f"Similarity to the nearest reference, {name}", f"{mean:.2f}", about),
    ]


def _measure(name: str, summary: Json) -> Json:
    """A measure with its numbers, each with its interval, as the table shows them."""
    found = registry.get("measure", name) if name in registry.names("measure") else None  # one from outside may be gone
    numbers = [
        (key.replace("_", " "), _said(value), _ends(summary.get(f"{key}_interval")))
        for key, value in summary.items()
        if not key.endswith("_interval") and not isinstance(value, dict | list)
    ]
    for key, value in summary.items():
        inner = value.items() if isinstance(value, dict) else ()
        numbers += [(f"{key.replace('_', ' ')}, {k}", _said(v), "") for k, v in inner if not isinstance(v, dict | list)]
    said = {"about": found.summary, "paper": found.paper} if found else {"about": "", "paper": ""}
    return said | {"name": name.replace("_", " "), "numbers": numbers}


def _said(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else shown(value)


def _ends(value: object) -> str:
    return interval(value, "{:.4g}").removeprefix("95 % interval ") if value is not None else ""
