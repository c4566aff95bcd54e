"""Training runs: the loss and what else changed from step to step, the probes of memorization, the previews."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, percent, shown
from mnemoscope.run.probe_rows import OWN, probed, read_probes
from mnemoscope.run.reading import Json

SHOWN = 8  # previews on a page
NUMBERS = ("step", "loss", "lr", "gradient_norm", "seconds")
GROUPS = ("memorized", "base")
CAVEATS = [
    "The loss says little about memorization: it falls for pictures that are learnt and for those that are copied.",
]


def check(raw: Json) -> Json:
    """A row with its numbers."""
    row = checked(raw) | {key: number(raw.get(key)) for key in NUMBERS}
    return row | {f"excluded_{group}": number(raw.get(f"excluded_{group}")) for group in GROUPS}


def headline(record: Record) -> str:
    """How far the training came, and with which loss."""
    asked = number(record.part("settings").get("steps"))
    done = int(max((row["step"] or 0 for row in record.done), default=0))
    of = f" of {int(asked):,}" if asked and done < asked else ""
    loss = number(record.summary.get("loss"))
    told = "" if loss is None else f", with a loss of {loss:.4g}"
    stopped = record.summary.get("stopped")
    return f"Trained for {done:,}{of} steps{told}." + (f" {stopped}" if isinstance(stopped, str) else "")


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What was trained, and on what."""
    settings, data = record.part("settings"), part(record.summary, "data")
    texts = [f"What was trained: {settings.get('train')}."]
    pictures = {name: counted(int(n), "picture") for name in data if (n := number(data[name])) is not None}
    if "memorized" in pictures:
        base = f" and {pictures['base']} of the base set" if data.get("base") and "base" in pictures else ""
        texts.append(f"On {pictures['memorized']}{base}.")
    if data.get("left_out") and "left_out" in pictures:
        texts.append(f"{pictures['left_out']} could not be used.")
    return [("The training", {}, " ".join(texts))]


def cards(record: Record) -> list[Card]:
    """Loss, samples, and what the filter left out."""
    summary, settings = record.summary, record.part("settings")
    made: list[Card] = []
    if (loss := number(summary.get("loss"))) is not None:
        made.append(("Loss", f"{loss:.4g}", "mean of the last steps"))
    for group in GROUPS:
        shares = _mean(row[f"excluded_{group}"] for row in record.done)
        if shares is not None and settings.get("hard_threshold") is not None:
            made.append((f"Left out, {group}", shown(percent(shares), "{:.1f} %"), "by the threshold"))
    seconds = _mean(row["seconds"] for row in record.done)
    if seconds is not None:
        made.append(("Seconds a step", f"{seconds:.3g}", "mean"))
    return made


def drawings(record: Record) -> Drawings:
    """Loss, learning rate, what the filter left out, and the probes of each detector."""
    rows = record.done
    loss = {"loss": _points(rows, "loss")}
    if loss["loss"]:
        yield "loss", "Loss", "Mean over the samples of a step.", plots.training_plot(loss, y="loss", smooth=True)
    if len({row["lr"] for row in rows}) > 1:
        rate = {"learning rate": _points(rows, "lr")}
        yield "learning_rate", "Learning rate", "Of each step.", plots.training_plot(rate, y="learning rate")
    if record.part("settings").get("hard_threshold") is not None:
        shares = {group: _points(rows, f"excluded_{group}") for group in GROUPS}
        kept = {group: points for group, points in shares.items() if points}
        if kept:
            hint = "Share of each group's samples that the threshold left out."
            yield "excluded", "Left out", hint, plots.training_plot(kept, y="share left out", smooth=True)
    yield from _probe_drawings(_probes(record), _limits(record))


def sections(record: Record) -> list[Section]:
    """The previews, the first and the last among them."""
    files = sorted((record.path / "previews").glob("*.png"))
    if len(files) > SHOWN:
        places = [round(k * (len(files) - 1) / (SHOWN - 1)) for k in range(SHOWN)]
        notes, files = [f"{SHOWN} of {len(files)} previews are shown."], [files[k] for k in places]
    else:
        notes = []
    tiles = [
        {"step": file.stem.lstrip("0") or "0", "picture": picture(record.path, f"previews/{file.name}")}
        for file in files
    ]
    return [Section("previews.html", {"rows": tiles}, notes)] if tiles else []


def caveats(record: Record) -> list[str]:
    """What a falling loss does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The last steps."""
    rows: list[list[str | Text]] = [
        [f"{int(row['step'] or 0):,}", shown(row["loss"]), shown(row["lr"], "{:.3g}"), shown(row["seconds"], "{:.3g}")]
        for row in record.done[-limit:]
    ]
    columns = [("step", "right"), ("loss", "right"), ("learning rate", "right"), ("seconds", "right")]
    return terminal_table(columns, rows) if rows else None


def _probes(record: Record) -> list[Json]:
    try:
        return [dict(row) for row in read_probes(record.path) if number(row.get("step")) is not None]
    except (ValueError, OSError) as error:
        raise UsageError(f"The probes of {record.path} cannot be read: {error}") from None


def _probe_drawings(rows: list[Json], limits: dict[str, float]) -> Drawings:
    """A figure for each detector and one for the similarity to the own pictures, a curve a group."""
    names = dict.fromkeys(str(row["detector"]) for row in rows if row.get("detector"))
    hints = {name: "Mean over the probes of a group: higher is more likely memorized." for name in names}
    for name in [*names, OWN]:
        if probed(rows, name):
            hint = hints.get(name, "Similarity of the probes' images to their own pictures: 1 is a copy.")
            title = name.replace("_", " ")
            figure = plots.probes_plot(rows, name, threshold=limits.get(name))
            yield f"probes_{name}", f"Probes: {title}", f"{hint} Bands are 95 % intervals over the probes.", figure


def _limits(record: Record) -> dict[str, float]:
    """What the training was to stop above."""
    texts = record.part("free").get("stop_above")
    pairs = [str(text).partition("=") for text in texts] if isinstance(texts, list) else []
    return {name: float(value) for name, _, value in pairs if value.replace(".", "", 1).isdecimal()}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _points(rows: list[Json], key: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), row[key]) for row in rows if row["step"] is not None and row[key] is not None]
