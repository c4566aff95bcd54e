"""Generate runs: similarity to references, and images beside their nearest reference and their unmitigated twin."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.gallery import gallery
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, listed, part
from mnemoscope.report.tables import cell, flag
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json
from mnemoscope.stats import mean_interval

NAMES = {True: "flagged prompts", False: "other prompts", None: "all prompts"}
CAVEATS = [
    "Similarity finds copies only of the references given. It compares pixels, so a copy that is moved, cropped or "
    "recoloured can score low, and plain images score high by chance."
]
IDENTICAL = 0.9999  # similarity to the unmitigated image from which on an image counts as the same


def check(raw: Json) -> Json:
    """A row with its files, and what a mitigation saw and did."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("file", "match", "match_caption", "baseline")}
    seen, given = part(raw, "seen"), listed(raw.get("mitigation"))
    found = row["flagged"] if row["flagged"] is not None else seen.get("flagged")
    return row | {
        "mitigation": [name for name in given if isinstance(name, str)],
        "seen": seen,
        "flagged": found if isinstance(found, bool) else None,
        "score": row["score"] if row["score"] is not None else number(seen.get("score")),
        "threshold": row["threshold"] if row["threshold"] is not None else number(seen.get("threshold")),
        "baseline_similarity": number(raw.get("baseline_similarity")),
        "mitigated": bool(seen) or bool(given),
    }


def headline(record: Record) -> str:
    """How many images there are, what was done to them, and how close they come to the references."""
    images = counted(len(record.done), "image")
    made = f"{images} generated for {counted(len({row['prompt_id'] for row in record.done}), 'prompt')}"
    values = [row["similarity"] for row in record.done if row["similarity"] is not None]
    compared = (
        f"similarity to the nearest reference image: median {np.median(values):.2f}, highest {max(values):.2f}."
        if values
        else "none was compared with reference images."
    )
    return f"{made}{_treated(record)}; {compared}"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """Images need no word of explanation beside the gallery's own."""
    return []


def cards(record: Record) -> list[Card]:
    """What was mitigated and how much it changed, and mean similarities, a prompt counted once, with intervals."""
    treated = [row for row in record.done if row["mitigated"]]
    made: list[Card] = []
    if treated:
        acted = [row for row in treated if row["mitigation"]]
        made.append(
            (
                "Images that were mitigated",
                f"{len(acted):,}",
                f"of {counted(len(treated), 'image')}"
                + (", the others left as they are" if len(acted) < len(treated) else ""),
            )
        )
        left = [row for row in treated if not row["mitigation"]]
        for name, rows in (("mitigated", acted), ("left alone", left)):
            alike = [v for row in rows if (v := row["baseline_similarity"]) is not None]
            if alike:
                same = sum(value >= IDENTICAL for value in alike)
                said = f"mean similarity of {counted(len(alike), 'image')} to the same seed's, {same:,} the same"
                title = f"Likeness to the image without mitigation, {name}"
                made.append((title, f"{np.mean(alike):.2f}", said))
    for name, values in similarities(record, per_prompt=True).items():
        ends = "{:.2f} to {:.2f}".format(*mean_interval(values)) if values.size > 1 else ""
        said = f", 95 % interval {ends}" if ends else ": too few for an interval"
        name = f"Similarity to the nearest reference{_suffix(record)}, {name}"
        made.append((name, f"{values.mean():.2f}", f"mean of {counted(values.size, 'prompt')}{said}"))
    return made


def drawings(record: Record) -> Drawings:
    """How close images come to the references."""
    values, none = similarities(record), np.empty(0)
    if values:
        names = {"memorized": NAMES[True], "ordinary": NAMES[False], "unlabelled": "images"}
        given: Json = {"label": "similarity to the nearest reference (cosine)", "of": "images", "log": False}
        by_flag = (values.get(NAMES[True], none), values.get(NAMES[False], none))
        figure = plots.density_plot(*by_flag, unlabelled=values.get(NAMES[None]), names=names, **given)
        yield "similarity", f"Similarity of images to references{_suffix(record)}", "Near 1 an image is a copy.", figure


def sections(record: Record) -> list[Section]:
    """The gallery."""
    blocks, notes = gallery(record)
    content = {
        "blocks": blocks,
        "is_mitigated": record.title == "mitigate",
        "has_baseline": any(tile["baseline"] for block in blocks for tile in block["tiles"]),
        "has_match": any(tile["match"] for block in blocks for tile in block["tiles"]),
    }
    return [Section("gallery.html", content, notes)] if blocks else []


def caveats(record: Record) -> list[str]:
    """What a similarity of pixels misses."""
    return CAVEATS if record.done else []


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images closest to a reference."""
    rows = sorted(record.done, key=lambda row: -2.0 if row["similarity"] is None else row["similarity"], reverse=True)
    columns = [("similarity", "right"), ("flagged", "left"), ("seed", "right"), ("prompt", "fill")]
    cells: list[list[str | Text]] = [
        [shown(row["similarity"]), flag(row["flagged"]), str(row["seed"]), row["prompt"]] for row in rows[:limit]
    ]
    if any(row["mitigated"] for row in rows):
        columns.insert(3, ("mitigation", "left"))
        for row, own in zip(rows, cells, strict=False):
            own.insert(3, ", ".join(row["mitigation"]) or cell("left as it is", "dim"))
    return terminal_table(columns, cells) if cells else None


def similarities(record: Record, per_prompt: bool = False) -> dict[str, np.ndarray]:
    """Similarities to the nearest reference by what the detector said: of each image, or the mean of each prompt."""
    found: dict[str, dict[Any, list[float]]] = {}
    for index, row in enumerate(record.done):
        if row["similarity"] is not None:
            one = row["prompt_id"] if per_prompt else index
            found.setdefault(NAMES[row["flagged"]], {}).setdefault(one, []).append(row["similarity"])
    return {name: np.array([np.mean(each) for each in found[name].values()]) for name in sorted(found)}


def _suffix(record: Record) -> str:
    """What tells mitigated images from those of the same audit that are not."""
    return ", mitigated" if record.title == "mitigate" else ""


def _treated(record: Record) -> str:
    """What a mitigation did, as the middle of a sentence; nothing where there was none."""
    treated = [row for row in record.done if row["mitigated"]]
    if not treated:
        return ""
    acted = [row for row in treated if row["mitigation"]]
    names = list(dict.fromkeys(name for row in acted for name in row["mitigation"]))
    if not acted:
        return ", none of them flagged, so that all were left as they are"
    rest = f" and {len(treated) - len(acted):,} left as they are" if len(acted) < len(treated) else ""
    return f", {len(acted):,} mitigated by {' and '.join(names)}{rest}"
