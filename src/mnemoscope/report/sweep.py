"""Sweep runs: what each mitigation buys and costs along its strength."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.points import BASELINE, GOAL, aligned, chance, curves, doubt, kept, named, replicated, said
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, grouped
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

SHEETS = 6  # prompts with images on a page
CAVEATS = [
    "Low replication is cheap to have with images that ignore the prompt: read it only beside the alignment.",
    "Destroyed is a strength whose images fit their own prompt no better than another one, while unmitigated ones do.",
    "Points whose intervals overlap cannot be told apart by this sweep.",
]


def check(raw: Json) -> Json:
    """A row with its method, strength, file and numbers."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("file", "parameter")}
    row |= {key: number(raw.get(key)) for key in ("baseline_similarity", "alignment", "seconds", "evaluations")}
    return row | {"mitigation": str(raw.get("mitigation") or BASELINE), "strength": said(raw.get("strength"))}


def headline(record: Record) -> str:
    """Which method at which strength replicates least often for the best alignment, or that none does."""
    points, images = curves(record), counted(len(record.done), "image")
    methods = {row["mitigation"] for row in record.done} - {BASELINE}
    if not points:
        return f"{images} of {counted(len(methods), 'mitigation')} drawn before the sweep stopped; no curve was drawn."
    plain = next((p for p in points if p["mitigation"] == BASELINE and p["replication_rate"] is not None), None)
    tried = [p for p in points if p["mitigation"] != BASELINE and p["replication_rate"] is not None]
    if not tried:
        return f"{images} of {counted(len(methods), 'mitigation')}; no replication rate was measured."
    origin = "" if plain is None else f", from {100 * plain['replication_rate']:.0f} % unmitigated"
    if plain is not None and plain["replication_rate"] < GOAL:
        return f"Without mitigation {replicated(plain)} already, so that there is little to mitigate."
    alive = [p for p in tried if not p["is_destroyed"]]
    lost = _destroyed(len(tried) - len(alive))
    if reached := [p for p in alive if p["replication_rate"] < GOAL]:
        best = max(reached, key=aligned)
        told = f"{named(best)}: {replicated(best)}{origin}{kept(best, plain)}"
        return f"Replication falls below 10 %, at the best alignment, by {told}.{doubt(best)}{lost}"
    if not alive:
        return f"Nothing was mitigated.{lost}"
    least = min(alive, key=lambda p: (p["replication_rate"], -aligned(p)))
    told = f"the lowest is {named(least)}: {replicated(least)}{origin}"
    return f"No mitigation brings replication below 10 %; {told}.{lost}"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What replication, similarity and alignment are."""
    told = {key: record.summary.get(key) for key in ("similarity", "alignment")}
    said_ = [f"{key.capitalize()}: {_sentence(value)}" for key, value in told.items() if isinstance(value, str)]
    if (limit := number(record.summary.get("replication_threshold"))) is not None:
        said_.append(
            f"An image counts as replicated if its similarity to its own training image is at least {limit:.3g}."
        )
    return [("What the numbers mean", {}, " ".join(said_))] if said_ else []


def cards(record: Record) -> list[Card]:
    """The unmitigated images, and what was tried."""
    points = curves(record)
    methods = {p["mitigation"] for p in points} - {BASELINE}
    made: list[Card] = [("Tried", f"{len(methods):,}", f"mitigations at {counted(len(points), 'point')} in all")]
    for plain in points[:1]:
        if plain["mitigation"] == BASELINE and plain["replication_rate"] is not None:
            rate = shown(percent(plain["replication_rate"]), "{:.0f} %")
            made.append(("Replicated, unmitigated", rate, chance(plain)))
            made.append(
                (
                    "Alignment, unmitigated",
                    shown(plain["alignment_mean"], "{:.2f}"),
                    interval(plain["alignment_interval"]),
                )
            )
    return made


def drawings(record: Record) -> Drawings:
    """Replication and similarity against alignment, one line a method."""
    points = curves(record)
    both = {
        "tradeoff": ("similarity_mean", "similarity to own training image", "Privacy against alignment"),
        "replication": ("replication_rate", "share of images replicated", "Replication against alignment"),
    }
    hint = "Lower is more private, further right follows the prompt better; numbers are strengths."
    for name, (key, label, title) in both.items():
        if any(p[key] is not None and p["alignment_mean"] is not None for p in points):
            figure = plots.tradeoff_plot(points, y=key, labels=("alignment with the prompt", label))
            yield name, title, hint, figure


def sections(record: Record) -> list[Section]:
    """The points in a table, and the images of some prompts along each method's strength."""
    points = curves(record)
    made = [Section("curves.html", {"rows": points, "goal": GOAL, "baseline": BASELINE})] if points else []
    own = grouped([row for row in record.done if row["file"]], lambda row: (row["prompt_id"], str(row["seed"])))
    first = {key[0]: rows for key, rows in reversed(own.items())}  # one seed a prompt, the first
    order = sorted(reversed(first.values()), key=lambda rows: not any(row["label"] for row in rows))
    sheets = [_sheet(record, rows) for rows in order[:SHEETS]]
    notes = [f"Images of {SHEETS} of {len(first):,} prompts are shown."] if len(first) > SHEETS else []
    return made + ([Section("sheets.html", {"rows": sheets, "baseline": BASELINE}, notes)] if sheets else [])


def caveats(record: Record) -> list[str]:
    """What a curve does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The points of all curves."""
    rows: list[list[str | Text]] = [
        [
            ("unmitigated" if p["mitigation"] == BASELINE else p["mitigation"])
            + (" (destroyed)" if p["is_destroyed"] else ""),
            f"{p['parameter']} {p['strength']}".strip(),
            shown(percent(p["replication_rate"]), "{:.0f} %"),
            shown(p["similarity_mean"], "{:.2f}"),
            shown(p["alignment_mean"], "{:.2f}"),
            shown(p["evaluations_per_image"], "{:.0f}"),
        ]
        for p in curves(record)
    ]
    names = ("strength", "replicated", "similarity", "alignment", "evaluations")
    columns = [("mitigation", "fill"), *((name, "right") for name in names)]
    return terminal_table(columns, rows, wrap=True) if rows else None


def _destroyed(count: int) -> str:
    """A sentence for strengths that leave nothing of what was asked for."""
    if not count:
        return ""
    verb = "destroys" if count == 1 else "destroy"
    return f" {counted(count, 'strength')} {verb} the images, which show their prompt no more than chance."


def _sheet(record: Record, rows: list[Json]) -> Json:
    tiles = [row | {"picture": picture(record.path, row["file"])} for row in rows]
    return rows[0] | {"methods": grouped(tiles, lambda tile: tile["mitigation"])}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
