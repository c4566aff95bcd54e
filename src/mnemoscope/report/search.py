"""Search runs: how much was searched, how close the nearest images are, and queries beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.neighbours import section as neighbours
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, grouped, listed, part
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, percent, shown
from mnemoscope.run.reading import Json

LEAD = (
    "Each query with the images of the index nearest to it; the bold number is the similarity, 1 for the same picture."
)
LEAST_SPREAD = 0.01  # of scores that are worth a plot
CAVEATS = [
    "What was not searched cannot be found: images that could not be read or downloaded, and shards that are damaged.",
    "A similar image is not proof of copying: look at the pairs.",
]


def check(raw: Json) -> Json:
    """A row of one query and one rank, with its names and score."""
    texts = ("file", "match", "caption", "url", "shard", "picture", "match_picture")
    row = checked(raw) | {key: str(raw.get(key) or "") for key in texts}
    row["rank"] = number(raw.get("rank"))
    return row if row["rank"] or row["status"] != "ok" else failed(row, "its rank is not recorded")


def headline(record: Record) -> str:
    """How close queries come to the index, and how much of it was searched."""
    best = nearest(record)
    queries = _queries(len(grouped(record.rows, lambda row: row["prompt_id"])))
    counts = [number(record.summary.get(key)) for key in ("searched", "listed", "coverage")]
    if None in counts:
        return f"{queries}; the search was interrupted."
    searched, whole, coverage = counts
    among = f"{searched:,.0f} of {whole:,.0f} listed images searched ({100 * (coverage or 0):.4g} %)"
    scores = [row["score"] for row in best if row["score"] is not None]
    said = f"a median of {np.median(scores):.2f}, the highest {max(scores):.2f}" if scores else "none"
    gaps = listed(record.summary.get("gaps"))
    lost = f" {counted(len(gaps), 'shard')} of the index could not be searched." if gaps else ""
    return f"Similarity of {queries} to the nearest image: {said}; {among}.{lost}{_recall(record)}"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the similarity is taken from."""
    info = record.part("features")
    if not info:
        return []
    said = f"Similarity is the cosine of {info.get('features')} vectors, preset {info.get('preset')}, weights "
    return [("What is compared", {}, f"{said}{info.get('weights')}. Unrelated images are near 0.")]


def cards(record: Record) -> list[Card]:
    """Coverage, and how many queries have a copy in the index."""
    summary = record.summary
    coverage, limit, above = (number(summary.get(key)) for key in ("coverage", "threshold", "above_threshold"))
    made: list[Card] = []
    if coverage is not None:
        statuses = part(summary, "statuses")
        lost = [f"{statuses[key]:,} {key}" for key in ("unreadable", "missing") if number(statuses.get(key))]
        gaps = listed(summary.get("gaps"))
        lost += [f"{counted(len(gaps), 'shard')} lost"] if gaps else []
        made.append(("Searched", shown(percent(coverage), "{:.4g} %"), ", ".join(lost) or "of the images listed"))
    if limit is not None and above is not None:
        among = _queries(len(nearest(record)))
        made.append((f"Similarity above {limit:g}", f"{above:,.0f}", f"of {among}: likely copies"))
    return made


def drawings(record: Record) -> Drawings:
    """How close the nearest images are."""
    scores = np.array([row["score"] for row in nearest(record) if row["score"] is not None])
    if scores.size > 1 and np.ptp(scores) > LEAST_SPREAD:
        none, label = np.empty(0), "cosine with the nearest image"
        figure = plots.density_plot(
            none, none, unlabelled=scores, label=label, log=False, names={"unlabelled": "queries"}, of="queries"
        )
        yield "similarity", "Similarity of queries to the index", "Near 1 the index holds a copy.", figure


def sections(record: Record) -> list[Section]:
    """Queries beside their nearest images."""
    rows = [_joined(rows) for rows in grouped(record.done, lambda row: row["prompt_id"]).values()]
    if not any(row["picture"] for row in rows):
        return []
    made = neighbours(replace(record, rows=rows), "Queries beside the nearest images of the index")
    return [replace(made, content=made.content | {"lead": LEAD})]


def caveats(record: Record) -> list[str]:
    """What a search does not say."""
    return [*CAVEATS, *(f"Shard {g.get('shard')}: {g.get('reason')}." for g in listed(record.summary.get("gaps"))[:20])]


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The queries with the nearest images."""
    ranked = sorted(nearest(record), key=lambda row: -2.0 if row["score"] is None else row["score"], reverse=True)
    rows: list[list[str | Text]] = [
        [shown(row["score"], "{:.3f}"), cell(row["file"]), cell(row["match"] or "-"), cell(row["caption"])]
        for row in ranked[:limit]
    ]
    columns = [("similarity", "right"), ("query", "left"), ("nearest image", "left"), ("caption", "fill")]
    return terminal_table(columns, rows) if rows else None


def nearest(record: Record) -> list[Json]:
    """The rows of the first rank."""
    return [row for row in record.done if row["rank"] == 1]


def _queries(count: int) -> str:
    return f"{count:,} {'query' if count == 1 else 'queries'}"


def _joined(rows: list[Json]) -> Json:
    """A query as one row, with its matches as neighbours."""
    near = [
        {
            "match": r["match"],
            "score": r["score"],
            "caption": r["caption"],
            "picture": r["match_picture"],
            "is_own": False,
        }
        for r in rows
        if r["match"]
    ]
    named = ("file", "prompt", "prompt_id", "picture", "kind", "label", "score", "status", "flagged")
    return {key: rows[0][key] for key in named} | {
        "prompt": rows[0]["prompt"] or "query",
        "neighbours": near,
        "own_score": None,
    }


def _recall(record: Record) -> str:
    """How many of the true matches an approximate search found; nothing for an exact one."""
    told = part(record.summary, "recall")
    if not told:
        return ""
    one, all_ = (shown(told.get(key), "{:.3f}") for key in ("at_1", "at_k"))
    found = f"recall {one} of the nearest and {all_} of the {told.get('k')} nearest"
    return f" Approximate ({told.get('kind')}): {found}, by exact search of {told.get('sampled')} of the queries."
