"""Memorization ratios: which share of the images is copied, how sure that is, and images beside what they copy."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope.plots.ratio import quotient_histogram, ratio_curve_plot, snapshots_plot
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed, part
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, ends, interval, number, percent, shown
from mnemoscope.run.reading import Json

NUMBERS = ("d1", "d2", "d2_apart", "quotient", "quotient_apart")
RATIOS = ("memorization_ratio", "memorization_ratio_apart", "near_ratio")
CAVEATS = [
    "The ratio compares only at one number of training images: among more the second nearest is closer, and the same "
    "copy counts less often. The near ratio does not have this.",
    "Distances between pixels see no copy that is shifted, cropped or recoloured.",
]


def check(raw: Json) -> Json:
    """A row of one image with its distances."""
    texts = {key: str(raw.get(key) or "") for key in ("snapshot", "file", "match")}
    row = checked(raw) | texts | {key: number(raw.get(key)) for key in NUMBERS}
    row |= {key: raw.get(key) is True for key in ("memorized", "memorized_apart")}
    lacks = row["status"] == "ok" and not 0 <= (-1 if row["quotient_apart"] is None else row["quotient_apart"]) <= 1
    return failed(row, "its distances are not recorded") if lacks else row


def headline(record: Record) -> str:
    """The share of the images that is memorized, with its interval."""
    ratio = number(record.summary.get("memorization_ratio"))
    if ratio is None:
        return f"{counted(len(record.done), 'image')} compared; the run was interrupted."
    summary = record.summary
    among = counted(int(number(summary.get("references")) or 0), "training image")
    of = counted(int(number(summary.get("images")) or 0), "image")
    said = interval(percent(summary.get("memorization_ratio_interval")), "{:.1f}", " %")
    where = f" at the snapshot {summary.get('snapshot')}" if listed(summary.get("snapshots")) else ""
    return f"{100 * ratio:.1f} % of {of}{where} are memorized copies of one of {among} ({said}).{_floor(summary)}"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """When an image counts as memorized."""
    settings, summary = record.part("settings"), record.summary
    limit = shown(settings.get("threshold"), "{:.3g}")
    features = record.part("features")
    by = f"{features.get('features')}, preset {features.get('preset')}" if features else "pixels, 8 bits each"
    said = f"An image is memorized if its distance to the nearest training image is below {limit} of that to the "
    said += f"second nearest, by {by}. It is near if the distance is below {limit} of {_usual(summary)}."
    return [("The criterion", {"paper": "arXiv:2310.02664"}, said)]


def cards(record: Record) -> list[Card]:
    """Both ratios, the control, coverage, and what is left of the highest of several."""
    summary, made = record.summary, []
    doubles = int(number(summary.get("duplicates")) or 0)
    merged = f"{counted(doubles, 'copy', 'copies')} among the training images merged"
    kinds = [("memorization_ratio", "Memorized", ""), ("memorization_ratio_corrected", "Memorized, other images", "")]
    kinds.insert(1, ("memorization_ratio_apart", "Memorized, copies merged", merged)) if doubles else None
    kinds += [("near_ratio", "Near", ""), ("false_positive_floor", "Control", "images the model never saw; ")]
    for key, label, detail in kinds:
        if (value := number(summary.get(key))) is not None:
            own = interval(percent(summary.get(f"{key}_interval")), "{:.1f}", " %")
            made.append((label, f"{100 * value:.1f} %", detail if key.endswith("_apart") else detail + own))
    if (mean := number(summary.get("mean_distance"))) is not None:
        made.append(("Distance to the nearest", f"{mean:.3g}", f"mean, {summary.get('unit')}"))
    if (coverage := number(summary.get("coverage"))) is not None:
        copied = counted(int(number(summary.get("memorized_references")) or 0), "training image")
        made.append(("Coverage", f"{100 * coverage:.1f} %", f"{copied} copied at least once"))
    return made


def drawings(record: Record) -> Drawings:
    """Quotients, the ratio over the threshold, and over the snapshots."""
    summary, limit = record.summary, number(record.part("settings").get("threshold")) or 1 / 3
    rows = [row for row in record.done if row["snapshot"] == summary.get("snapshot")]
    values = np.array([row["quotient_apart"] for row in rows])
    if values.size:
        hint = "Left of the dotted line is memorized."
        yield "quotients", "How much closer the nearest is", hint, quotient_histogram(values, threshold=limit)
    named = {"generated": ("curve", "ratio"), "copies merged": ("curve", "ratio_apart")}
    named |= {"images never seen": ("held_out_curve", "ratio_apart")}
    curves = {name: _curve(summary.get(key), column) for name, (key, column) in named.items()}
    if curves["copies merged"] == curves["generated"]:
        del curves["copies merged"]
    if drawn := {name: points for name, points in curves.items() if points}:
        hint = "What other thresholds would say."
        yield "curve", "The ratio over the threshold", hint, ratio_curve_plot(drawn, threshold=limit)
    if snapshots := _snapshots(record):
        yield "snapshots", "The ratio over the training", "Bands are 95 % intervals.", snapshots_plot(snapshots)


def sections(record: Record) -> list[Section]:
    """The snapshots, and images beside the training images nearest to them."""
    rows = [_pair(record, each) for each in listed(record.summary.get("pairs")) if isinstance(each, dict)]
    snapshots = [_ended(row, record.summary.get("snapshot")) for row in _snapshots(record)]
    content = {"rows": rows, "snapshots": snapshots, "unit": record.summary.get("unit")}
    return [Section("pairs.html", content)] if rows or snapshots else []


def caveats(record: Record) -> list[str]:
    """What a ratio does not say."""
    summary, said = record.summary, list(CAVEATS)
    if found := number(summary.get("held_out_in_references")):
        said.append(f"{counted(int(found), 'control image')} equal a training image: the control is no control.")
    if number(summary.get("false_positive_floor")) is None and summary:
        said.append("No images that the model never saw were given: what the criterion flags by chance is not known.")
    return said


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images closest to one training image."""
    ranked = sorted(record.done, key=lambda row: row["quotient_apart"])
    rows: list[list[str | Text]] = [
        [
            *(shown(row[key], "{:.3g}") for key in ("d1", "d2_apart", "quotient_apart")),
            cell(row["file"]),
            cell(row["match"]),
        ]
        for row in ranked[:limit]
    ]
    columns = [("nearest", "right"), ("second", "right"), ("quotient", "right")]
    columns += [("image", "fill"), ("nearest training image", "left")]
    return terminal_table(columns, rows) if rows else None


def _floor(summary: Json) -> str:
    floor = number(summary.get("false_positive_floor"))
    return "" if floor is None else f" Of images that the model never saw, {100 * floor:.1f} % count as such."


def _usual(summary: Json) -> str:
    told = {"pool": "the pool", "held-out": "the control", "references": "the training images"}
    pool = told.get(str(summary.get("pool")), "the pool")
    return f"the usual distance between neighbours in {pool}, {shown(summary.get('usual_distance'), '{:.3g}')}"


def _curve(value: object, column: str) -> list[tuple[float, float]]:
    points = [(number(p.get("threshold")), number(p.get(column))) for p in listed(value) if isinstance(p, dict)]
    return [(at, share) for at, share in points if at is not None and share is not None]


def _snapshots(record: Record) -> list[Json]:
    """The snapshots of which all that is drawn was recorded."""
    rows = [row for row in listed(record.summary.get("snapshots")) if isinstance(row, dict)]
    return [
        row for row in rows if all(ends(row.get(f"{k}_interval")) and number(row.get(k)) is not None for k in RATIOS)
    ]


def _ended(row: Json, chosen: object) -> Json:
    known = {key: number(row.get(key)) for key in (*RATIOS, "images", "mean_distance", "coverage")}
    return (
        known
        | {f"{key}_ends": ends(row[f"{key}_interval"]) for key in RATIOS}
        | {
            "snapshot": str(row.get("snapshot")),
            "is_chosen": row.get("snapshot") == chosen,
        }
    )


def _pair(record: Record, pair: Json) -> Json:
    files = part(pair, "files")
    uris = {key: picture(record.path, files.get(key)) for key in ("picture", "match", "other")}
    texts = {key: str(pair.get(key) or "") for key in ("file", "match", "other")}
    return (
        texts
        | {key: number(pair.get(key)) for key in ("d1", "d2", "quotient")}
        | {
            "uris": uris,
            "memorized": pair.get("memorized") is True,
        }
    )
