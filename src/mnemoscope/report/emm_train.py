"""Trainings from scratch: how much is memorized at which moment, by which average of the weights, and the loss."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_table

NUMBERS = (
    *("step", "images", "epochs", "samples", "ratio", "ratio_low", "ratio_high"),
    *("ratio_apart", "ratio_apart_low", "ratio_apart_high", "mean_distance", "coverage", "seconds"),
)
LINE = 0.9  # of the effective memorization: 1 - eps for eps = 0.1
RATIOS = {"ratio_last": "At the end", "ratio_max": "Highest", "ratio_max_corrected": "Highest, other images"}
CAVEATS = [
    "The highest of several ratios is too high by chance; the number on other images, which did not choose it, is not.",
    "The ratio compares only at one number of training images: among more the second nearest is closer, and the same "
    "copy counts less often.",
    "Ratios grow with the length of a training: this one says nothing about a longer one.",
]


def check(raw: Json) -> Json:
    """A row of one scored snapshot."""
    texts = {key: str(raw.get(key) or "") for key in ("ema", "part")}
    row = checked(raw) | texts | {key: number(raw.get(key)) for key in NUMBERS}
    lacks = row["status"] == "ok" and (row["ratio"] is None or row["step"] is None)
    return failed(row, "its ratio is not recorded") if lacks else row


def headline(record: Record) -> str:
    """How far the training came, and what is memorized at its best moment."""
    summary = record.summary
    steps = number(summary.get("steps"))
    if steps is None:
        done = int(max((row["step"] for row in record.done), default=0))
        return f"{counted(done, 'step')} are scored; the training is not finished."
    among = counted(int(number(record.part("data").get("images")) or 0), "image")
    said = f"Trained for {counted(int(steps), 'step')} on {among}."
    key = "ratio_max_corrected" if number(summary.get("ratio_max_corrected")) is not None else "ratio_last"
    if (ratio := number(summary.get(key))) is not None:
        sure = interval(percent(summary.get(f"{key}_interval")), "{:.1f}", " %")
        at = int(number(summary.get("step_max")) or steps)
        said += f" After {counted(at, 'step')} {100 * ratio:.1f} % of what it draws is memorized ({sure})."
    stopped = summary.get("stopped")
    return said + (f" {stopped}" if isinstance(stopped, str) else "")


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What was trained, on what, and when an image counts as memorized."""
    network = record.part("network")
    options, data, source = part(network, "options"), record.part("data"), record.part("source")
    classes = int(number(network.get("num_classes")) or 0)
    size = network.get("resolution")
    said = f"{options.get('architecture')}, width {options.get('width')}, preconditioning "
    said += f"{options.get('preconditioning')}; {shown(record.summary.get('parameters'), '{:,.0f}')} parameters. "
    said += f"Images: {data.get('images')} of {size} x {size}" + (f", from {source['data']}" if source else "")
    said += f", with {counted(classes, 'class')}.".replace("classs", "classes") if classes else ", without labels."
    limit = shown(record.part("settings").get("threshold"), "{:.3g}")
    rule = f"An image is memorized if its distance to the nearest training image is below {limit} of that to the "
    rule += "second nearest, in pixels of 8 bits."
    return [("The training", {}, said), ("The criterion", {"paper": "arXiv:2310.02664"}, rule)]


def cards(record: Record) -> list[Card]:
    """The ratio at the end, the highest, and what is left of it on other images."""
    summary, made = record.summary, []
    for key, name in RATIOS.items():
        if (value := number(summary.get(key))) is not None:
            step = summary.get("step_last" if key == "ratio_last" else "step_max")
            sure = interval(percent(summary.get(f"{key}_interval")), "{:.1f}", " %")
            made.append((f"Memorized: {name.lower()}", f"{100 * value:.1f} %", f"step {step}; {sure}"))
    if (distance := number(summary.get("mean_distance_last"))) is not None:
        made.append(("Distance to the nearest", f"{distance:.3g}", "mean at the end, grey levels"))
    if (loss := number(summary.get("loss"))) is not None:
        made.append(("Loss", f"{loss:.4g}", "mean of the last steps, summed over pixels"))
    bad = number(summary.get("bad_gradients"))
    if bad or number(summary.get("skipped")):
        made.append(("Bad gradients", f"{int(bad or 0)}", f"steps; {summary.get('skipped')} more were skipped"))
    return made


def drawings(record: Record) -> Drawings:
    """The ratio and the distance over the training, an average a curve, and the loss."""
    curves = _curves(record)
    if curves:
        hint = "Of each average of the weights, with 95 % intervals; the dashed line is 90 %."
        points = {name: [_point(row) for row in own] for name, own in curves.items()}
        figure = plots.ratio_plot(points, line=LINE)
        yield "ratio", "Memorized", hint, figure
        far = {name: [(int(row["step"]), row["mean_distance"]) for row in own] for name, own in curves.items()}
        hint = "Mean distance of what is drawn to the nearest training image, in grey levels: 0 is a copy."
        yield "distance", "Distance to the nearest", hint, plots.training_plot(far, y="distance, grey levels")
    if loss := _losses(record):
        hint = "Weighted squared error, summed over pixels: mean over some steps."
        yield "loss", "Loss", hint, plots.training_plot({"loss": loss}, y="loss", smooth=True)


def sections(record: Record) -> list[Section]:
    """Every average and every snapshot, in a table."""
    found = part(record.summary, "averages")
    averages = [{"name": name, **_numbers(own)} for name, own in found.items() if isinstance(own, dict) and own]
    rows = [row for own in _curves(record).values() for row in own]
    content = {"averages": averages, "ratios": RATIOS, "rows": rows, "has_copies": _has_copies(record)}
    return [Section("emm_train.html", content)] if rows else []


def caveats(record: Record) -> list[str]:
    """What the ratios do not say."""
    said = CAVEATS if record.done else []
    if number(record.summary.get("bad_gradients")):
        said = [*said, "Gradients had entries that are no number, which counted as 0; a lower learning rate avoids it."]
    return said


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The last snapshots of the first averages."""
    rows: list[list[str | Text]] = []
    for name, own in _curves(record).items():
        for row in own[-limit:]:
            sure = f"{shown(percent(row['ratio_low']), '{:.1f}')} to {shown(percent(row['ratio_high']), '{:.1f}')}"
            at, far = f"{int(row['step']):,}", shown(row["mean_distance"], "{:.3g}")
            rows.append([name, at, f"{100 * row['ratio']:.1f} %", sure, far])
    columns = [("average", "left"), ("step", "right"), ("memorized", "right"), ("95 %", "right"), ("distance", "right")]
    return terminal_table(columns, rows[:limit]) if rows else None


def _curves(record: Record) -> dict[str, list[Json]]:
    """Rows that chose a snapshot, by their average, in order of the training."""
    found: dict[str, list[Json]] = {}
    for row in sorted(record.done, key=lambda row: row["step"]):
        if row["part"] == "selection":
            found.setdefault(row["ema"], []).append(row)
    named = [str(name) for name in listed(record.part("settings").get("ema"))]
    return {name: found[name] for name in [*(n for n in named if n in found), *(n for n in found if n not in named)]}


def _point(row: Json) -> tuple[int, float, float, float]:
    low, high = (row[key] if row[key] is not None else row["ratio"] for key in ("ratio_low", "ratio_high"))
    return int(row["step"]), row["ratio"], low, high


def _numbers(own: Mapping[str, Any]) -> Json:
    return {key: {"value": number(own.get(key)), "ends": percent(own.get(f"{key}_interval"))} for key in RATIOS} | {
        "step_max": number(own.get("step_max")),
        "distance": number(own.get("mean_distance_last")),
    }


def _has_copies(record: Record) -> bool:
    return any(row["ratio_apart"] is not None and row["ratio_apart"] != row["ratio"] for row in record.done)


def _losses(record: Record) -> list[tuple[int, float]]:
    try:
        rows = read_table(record.path / "losses.jsonl")
        return [(int(row["step"]), row["loss"]) for row in rows if number(row.get("loss")) is not None]
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UsageError(f"The losses of {record.path} cannot be read: {error}") from None
