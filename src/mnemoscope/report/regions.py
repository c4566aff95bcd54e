"""Region runs: where in each image something is memorized, and how well that overlaps the truth."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, grouped, listed, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

SHOWN, IMAGES = 100, 4  # prompts on a page, and images of each
PICTURES = {"file": "image", "overlay": "map", "region": "stands out", "truth": "true region"}
NUMBERS = ("peak", "mean", "share", "iou")
RULES = {"otsu": "each map's own split", "otsu_of_all": "one split of all maps", "best": "best threshold, an oracle"}
CAVEATS = [
    "Each map is cut by its own threshold, so that something stands out of every image, memorized or not; compare the "
    "colours, which are on one scale.",
    "A region that the text changes is where to look, not proof that it was copied.",
    "The best threshold was chosen with the truth at hand: no threshold that is set beforehand does better.",
]


def check(raw: Json) -> Json:
    """A row with its numbers and files; without its map's greatest value it has failed."""
    row = checked(raw) | {key: number(raw.get(key)) for key in NUMBERS}
    row |= {key: str(raw.get(key) or "") for key in PICTURES}
    return row if row["peak"] is not None else failed(row, "its map has no finite values")


def headline(record: Record) -> str:
    """How many images have a map, and how well the best cut of all overlaps the truth."""
    made = f"{counted(len(record.done), 'image')} mapped by {record.method}"
    best, ones = (_overlap(record, rule, "iou") for rule in ("best", "all_ones"))
    if best is None or ones is None:
        return f"{made}; no true regions were given to compare with."
    judged = counted(int(number(record.summary.get("judged")) or 0), "image")
    overlap = f"the maps overlap the true regions by {best:.2f} at the best threshold"
    return f"{made}; in {judged} with a known truth {overlap}, a mask of all pixels by {ones:.2f}."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What a map's value means."""
    said = "Maps are laid over the images by the logarithm of one plus their value, black to yellow, on one scale."
    return [("What the maps show", record.part("method") or {"name": record.method}, said)]


def cards(record: Record) -> list[Card]:
    """Overlap with the truth by rule of threshold, beside that of a mask of all pixels."""
    made: list[Card] = [("Images", f"{len(record.done):,}", f"mapped by {record.method}")]
    for rule, name in {**RULES, "all_ones": "all pixels"}.items():
        if (value := _overlap(record, rule, "iou")) is not None:
            own = part(part(part(record.summary, "overlap"), rule), "iou")
            said = f"intersection over union, {interval(own.get('interval'))}"
            if (accuracy := percent(_overlap(record, rule, "accuracy"))) is not None:
                said += f"; {accuracy:.0f} % of the pixels on the right side"
            made.append((name.capitalize(), f"{value:.2f}", said))
    return made


def drawings(record: Record) -> Drawings:
    """Overlap with the truth at every threshold."""
    curve = [number(v) for v in listed(part(part(record.summary, "overlap"), "best").get("curve"))]
    values = np.array([v for v in curve if v is not None])
    ones = _overlap(record, "all_ones", "iou")
    if len(values) > 1 and len(values) == len(curve) and ones is not None:
        figure = plots.threshold_plot(np.linspace(0, 1, len(values)), values, ones)
        hint = "A map that tells regions apart rises above the dashed line, a mask of all pixels."
        yield "overlap", "Overlap with the true regions by threshold", hint, figure


def sections(record: Record) -> list[Section]:
    """Each image with its map, what stands out of it, and the truth."""
    groups = sorted(grouped(record.done, lambda row: row["prompt_id"]).values(), key=_rank, reverse=True)
    blocks = [
        members[0] | {"total": len(members), "rows": [_shown(record, row) for row in members[:IMAGES]]}
        for members in groups[:SHOWN]
    ]
    notes = [f"Maps of {SHOWN} of {len(groups):,} prompts are shown."] if len(groups) > SHOWN else []
    lost = sum(uri is None for block in blocks for row in block["rows"] for _, uri in row["pictures"])
    if lost:
        notes.append(f"{counted(lost, 'picture')} could not be shown: missing, unreadable or outside the run.")
    return [Section("regions.html", {"blocks": blocks}, notes)] if blocks else []


def caveats(record: Record) -> list[str]:
    """What a map does not say."""
    return CAVEATS if record.summary.get("overlap") else CAVEATS[:2]


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images with the greatest mean of their maps."""
    ranked = sorted(record.done, key=lambda row: _rank([row]), reverse=True)
    rows = [
        [*(shown(row[key], "{:.3g}") for key in NUMBERS), str(row["seed"]), row["prompt"]] for row in ranked[:limit]
    ]
    names = ("peak", "mean", "stands out", "overlap", "seed")
    return terminal_table([*((name, "right") for name in names), ("prompt", "fill")], rows) if rows else None


def _overlap(record: Record, rule: str, measure: str) -> float | None:
    return number(part(part(part(record.summary, "overlap"), rule), measure).get("value"))


def _rank(members: list[Json]) -> float:
    return max(-np.inf if row["mean"] is None else row["mean"] for row in members)


def _shown(record: Record, row: Json) -> Json:
    return row | {"pictures": [(n, picture(record.path, row[k])) for k, n in PICTURES.items() if row[k]]}
