"""Recover runs: what an edit hides, and what an embedding brings back."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

STAGES = {"before": "before the edit", "after": "after it", "attacked": "under attack"}
SHOWN, IMAGES = 60, 4  # prompts on a page, images of each stage
CAVEATS = [
    "An attack that fails proves little: another start, more steps or another image of the same content may succeed.",
    "An attack can also draw what was never memorized if it is given enough steps: read it beside the controls.",
]
PAPER = {"name": "adversarial_embedding", "paper": "arXiv:2507.16880"}
PAPER |= {"summary": "Adam on the text embedding, down the training loss of the image to bring back."}


def check(raw: Json) -> Json:
    """A row with the similarities of each stage and their best."""
    row = checked(raw) | {"control": raw.get("control") is True, "reference": str(raw.get("reference") or "")}
    for stage in STAGES:
        values = [v for each in listed(raw.get(stage)) if (v := number(each)) is not None]
        files = [str(f) for f in listed(raw.get(f"{stage}_files"))]
        row |= {stage: values, f"{stage}_best": max(values, default=None), f"{stage}_files": files}
    if row["status"] == "ok" and any(not row[stage] for stage in STAGES):
        return failed(row, "the row has no similarities")
    return row


def headline(record: Record) -> str:
    """How many images come out before the edit, after it, and under attack."""
    rates = [number(record.summary.get(f"memorization_rate_{stage}")) for stage in STAGES]
    if None in rates:
        return f"{counted(len(record.done), 'image')} attacked before the run stopped."
    before, after, attacked = (f"{100 * rate:.0f} %" for rate in rates if rate is not None)
    told = f"Of {counted(int(number(record.summary.get('targets')) or 0), 'image')}, {before} come out before the edit"
    return f"{told}, {after} after it, and {attacked} when an embedding is searched for."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the attack is."""
    begin = record.part("settings").get("begin")
    limit = shown(record.summary.get("threshold"), "{:.2g}")
    said = f"It begins at {'the prompt' if begin == 'prompt' else begin}. An image counts as back if the best of its "
    return [("How it was attacked", PAPER, f"{said}seeds has a similarity above {limit} with the training image.")]


def cards(record: Record) -> list[Card]:
    """Rates and similarities of the stages, and of the controls."""
    made: list[Card] = []
    for prefix, whose in (("", ""), ("control_", ", controls")):
        for stage, name in STAGES.items():
            key = f"{prefix}{stage}"
            if (rate := number(record.summary.get(f"memorization_rate_{key}"))) is not None:
                ends = interval(percent(record.summary.get(f"memorization_rate_{key}_interval")), "{:.0f}", " %")
                similarity = shown(record.summary.get(f"similarity_{key}"), "{:.2f}")
                made.append((f"Come out {name}{whose}", f"{100 * rate:.0f} %", f"{ends}; mean similarity {similarity}"))
    return made


def drawings(record: Record) -> Drawings:
    """Each image's similarity from stage to stage."""
    groups: dict[str, list[Json]] = {"memorized": [], "controls": []}
    for row in record.done:
        groups["controls" if row["control"] else "memorized"].append({s: row[f"{s}_best"] for s in STAGES})
    limit = number(record.summary.get("threshold"))
    if record.done and limit is not None:
        label = "best similarity to the training image"
        figure = plots.stages_plot(groups, stages=STAGES, threshold=limit, label=label)
        hint = "A line that falls and rises again is an image that the edit hid and did not remove."
        yield "stages", "Similarity before, after and under attack", hint, figure


def sections(record: Record) -> list[Section]:
    """Each training image beside what comes out at each stage."""
    ranked = sorted(record.done, key=lambda row: (row["control"], -row["attacked_best"]))
    rows = [_shown(record, row) for row in ranked[:SHOWN]]
    notes = [f"Images of {SHOWN} of {len(ranked)} prompts are shown."] if len(ranked) > SHOWN else []
    return [Section("recovered.html", {"rows": rows, "stages": STAGES}, notes)] if rows else []


def caveats(record: Record) -> list[str]:
    """What an attack does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images that came back most completely."""
    ranked = sorted(record.done, key=lambda row: -row["attacked_best"])
    rows: list[list[str | Text]] = [
        [*(shown(row[f"{stage}_best"], "{:.2f}") for stage in STAGES), "yes" if row["control"] else "", row["prompt"]]
        for row in ranked[:limit]
    ]
    columns = [("before", "right"), ("after", "right"), ("attacked", "right"), ("control", "left"), ("prompt", "fill")]
    return terminal_table(columns, rows) if rows else None


def _shown(record: Record, row: Json) -> Json:
    tiles = {}
    for stage in STAGES:
        files = list(zip(row[f"{stage}_files"], row[stage], strict=False))[:IMAGES]
        tiles[stage] = [(picture(record.path, file), value) for file, value in files]
    return row | {"picture": picture(record.path, row["reference"]), "tiles": tiles}
