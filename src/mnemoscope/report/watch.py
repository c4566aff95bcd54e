"""Watched trainings: how the probes' values change from checkpoint to checkpoint, and which pictures come back."""

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, listed
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.probe_rows import OWN, probed
from mnemoscope.run.reading import Json

SHOWN = 24  # pictures that come back, on a page
BASE = "base"
GROUP = {"memorized": "training pictures"}  # what a training calls its data, where there is no second set
HINTS = {OWN: "Similarity of what is drawn for a caption to its own picture: 1 is a copy."}
SCORE = "Mean over the captions of a group: higher is more likely memorized."
CAVEATS = [
    "A picture that is not looked at can come back unseen; give --probe-count as many as there are.",
    "One seed a caption is a small sample: audit the checkpoint that you keep.",
]


def check(raw: Json) -> Json:
    """A row with its numbers."""
    row = checked(raw) | {key: number(raw.get(key)) for key in ("step", "probe")}
    return row | {"checkpoint": str(raw.get("checkpoint", "")), "returning": raw.get("returning") is True}


def headline(record: Record) -> str:
    """How many pictures came back, from which checkpoint on, and whether to stop."""
    summary = record.summary
    if not summary:
        return f"{counted(len(_checkpoints(record)), 'checkpoint')} looked at so far."
    back, probes = listed(summary.get("came_back")), int(number(summary.get("probes")) or 0)
    seen = counted(len(listed(summary.get("checkpoints"))), "checkpoint")
    said = f"{len(back)} of {counted(probes, 'caption')} gave their picture back in {seen}."
    return f"{said} {summary['stop']}" if summary.get("stop") else said


def about(record: Record) -> list[tuple[str, object, str]]:
    """What was looked at, and what coming back means here."""
    level = "is more similar to its picture than a copy's threshold"
    if all(row.get(OWN) is None for row in record.done):
        level = "scores above every caption of the untrained model"
    return [("The watch", {}, f"A picture comes back where what its caption draws {level}, and did not before.")]


def cards(record: Record) -> list[Card]:
    """Pictures that came back, and the last checkpoint without any."""
    summary = record.summary
    if not summary:
        return []
    made: list[Card] = [("Came back", str(len(listed(summary.get("came_back")))), "pictures")]
    if kept := str(summary.get("last_without_copies") or ""):
        made.append(("Last without copies", dict(_checkpoints(record)).get(kept) or kept, kept))
    if known := number(summary.get("returned_by_base")):
        made.append(("Before the training", f"{known:.0f}", "pictures that the untrained model gives back"))
    return made


def drawings(record: Record) -> Drawings:
    """A curve for the similarity and one for each detector, over the checkpoints in their order."""
    names = _checkpoints(record)
    places = {name: place for place, (name, _) in enumerate(names)}
    rows = [
        {**row, "step": places[row["checkpoint"]], "group": GROUP.get(row["group"], row["group"])}
        for row in record.done
    ]
    ticks = {place: label for place, (_, label) in enumerate(names)}
    for value in [OWN, *dict.fromkeys(str(row["detector"]) for row in rows if row.get("detector"))]:
        if probed(rows, value):
            hint = f"{HINTS.get(value, SCORE)} Bands are 95 % intervals over the captions."
            figure = plots.probes_plot(rows, value, ticks=ticks)
            yield f"watched_{value}", value.replace("_", " ").capitalize(), hint, figure


def sections(record: Record) -> list[Section]:
    """Each picture that comes back beside what is drawn, where it came back first."""
    back = list({row["probe"]: row for row in reversed(_returning(record))}.values())[::-1]
    notes = [f"{SHOWN} of {len(back)} pictures that come back are shown."] if len(back) > SHOWN else []
    rows = [
        {**row, "drawn": picture(record.path, row.get("file")), "original": picture(record.path, row.get("reference"))}
        for row in back[:SHOWN]
    ]
    return [Section("watched.html", {"rows": rows}, notes)] if rows else []


def caveats(record: Record) -> list[str]:
    """What a watch does not see."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """How many pictures come back at each of the last checkpoints."""
    lines: list[list[str | Text]] = []
    for name, _ in _checkpoints(record)[-limit:]:
        rows = [row for row in record.done if row["checkpoint"] == name]
        back = {row["probe"] for row in rows if row["returning"]}
        own = [row[OWN] for row in rows if row[OWN] is not None]
        lines.append([Text(name), str(len(back)), shown(max(own, default=None), "{:.3f}")])
    columns = [("checkpoint", "left"), ("come back", "right"), ("most similar", "right")]
    return terminal_table(columns, lines) if lines else None


def _returning(record: Record) -> list[Json]:
    """Rows of pictures that come back, in the order of the checkpoints; the untrained model's are left out."""
    order = {name: place for place, (name, _) in enumerate(_checkpoints(record))}
    known = {row["probe"] for row in record.done if row["checkpoint"] == BASE and row["returning"]}
    rows = [row for row in record.done if row["returning"] and row["probe"] not in known]
    return sorted(rows, key=lambda row: order[row["checkpoint"]])


def _checkpoints(record: Record) -> list[tuple[str, str]]:
    """Names of the checkpoints in their order, the untrained model first, each with a short label."""
    steps = {row["checkpoint"]: row["step"] for row in record.done}
    order = sorted(steps, key=lambda name: (name != BASE, steps[name] is None, steps[name] or 0))
    labels = {name: name[:12] if steps[name] is None else f"{steps[name]:g}" for name in order}
    return [(name, BASE if name == BASE else labels[name]) for name in order]
