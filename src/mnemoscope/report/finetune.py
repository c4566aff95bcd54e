"""Audits of a fine-tune: what it added, picture by picture, beside its base and what a repair made of it."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, percent, shown
from mnemoscope.run.reading import Json

MODELS = {"base": "base", "tuned": "fine-tune", "repaired": "repaired", "extrapolated": "beyond the fine-tune"}
COLUMNS = ("scores", "flags", "similarities", "best", "copied", "best_files", "like_base")
SHOWN = 200  # pictures on a page
CAVEATS = [
    "A picture that does not come back for its own caption, at this guidance and from these seeds, can still be in the "
    "weights: another caption, more seeds, or a search for embeddings (recover) may bring it back.",
    "Controls that were made share words with the training captions. Where they give training pictures back too, the "
    "fine-tune has bound these to single words, or gives them for anything: see the column of controls.",
]


def check(raw: Json) -> Json:
    """A row with what each model gives of it."""
    row = checked(raw) | {name: part(raw, name) for name in COLUMNS}
    return (
        row
        | {"control": raw.get("control") is True, "added": number(raw.get("added"))}
        | {"reference": str(raw.get("reference") or "")}
    )


def headline(record: Record) -> str:
    """How many pictures come back with each model, and what the fine-tune added."""
    summary = record.summary
    drawn = number(summary.get("drawn"))
    if not drawn or number(summary.get("copied_tuned")) is None:
        return f"{counted(len(record.done), 'caption')} scored; none was drawn with both models."
    back = [f"{_back(summary, name, drawn)} {said}" for name, said in _named(summary) if name != "tuned"]
    told = f"{_back(summary, 'tuned', drawn)} of {counted(int(drawn), 'training picture')} come back with the fine-tune"
    return f"{told}; {', '.join(back)}. It added {_amount(summary, 'added')} to the likeness of a picture."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What is compared with what."""
    limit = shown(record.summary.get("threshold"), "{:.2g}")
    said = (
        "Every caption of the training pictures is drawn from the same seeds with the model that was fine-tuned and "
        f"with what came of it. A picture is back if the best of these images has a likeness above {limit} to it."
    )
    return [("What the fine-tune added", {}, said)]


def cards(record: Record) -> list[Card]:
    """What was added to training pictures and to controls, and what a repair took away."""
    summary, made = record.summary, []
    cards = (
        ("copied_anew", "Back by the fine-tune alone", "share of training pictures"),
        ("added", "Likeness added, training pictures", "mean change"),
        ("control_added", "Likeness added, captions not seen", "mean change, to the nearest training picture"),
        ("control_copied_tuned", "Back under captions not seen", "share of controls, with the fine-tune"),
        ("removed", "Likeness that the repair changed", "mean change, training pictures"),
        ("like_base_tuned", "Fine-tune's images against the base's", "mean likeness, same seeds"),
        ("like_base_repaired", "Repaired images against the base's", "at 1 the fine-tune is undone"),
    )
    for key, label, what in cards:
        if (value := number(summary.get(key))) is not None:
            rate = "copied" in key
            ends = interval(percent(summary.get(f"{key}_interval")), "{:.0f}", " %") if rate else ""
            ends = ends or interval(summary.get(f"{key}_interval"))
            made.append((label, f"{100 * value:.0f} %" if rate else f"{value:.2f}", f"{what}; {ends}"))
    return made


def drawings(record: Record) -> Drawings:
    """Each picture's likeness from model to model."""
    stages = {name: said for name, said in MODELS.items() if any(name in row["similarities"] for row in record.done)}
    groups: dict[str, list[Json]] = {"pictures": [], "controls": []}
    for row in record.done:
        values = row["similarities"] if row["control"] else row["best"]
        if set(stages) - {"extrapolated"} <= set(values) and (not row["control"] or "extrapolated" not in stages):
            groups["controls" if row["control"] else "pictures"].append(values)
    limit = number(record.summary.get("threshold"))
    if len(stages) > 1 and limit is not None and any(groups.values()):
        hint = "A line that rises from the base to the fine-tune is a picture that the training put in."
        figure = plots.stages_plot(groups, stages=stages, threshold=limit, label="likeness to the training picture")
        yield "finetune", "Likeness with each model", hint, figure


def sections(record: Record) -> list[Section]:
    """Each training picture beside the best image of each model, most added first; the controls folded below."""
    ranked = _ranked(record)
    pictures = [row for row in ranked if not row["control"]]
    names = {name: said for name, said in MODELS.items() if any(name in row["similarities"] for row in pictures)}
    content = {
        "models": names,
        "scored": [name for name in names if any(name in row["scores"] for row in pictures)],
        "rows": [_tiles(record, row) for row in pictures[:SHOWN]],
        "controls": [row for row in ranked if row["control"]][:SHOWN],
        "made": record.summary.get("controls_made") is True,
        "threshold": number(record.summary.get("threshold")),
        "thresholds": {name: number(record.summary.get(f"threshold_{name}")) for name in names},
    }
    notes = [f"{SHOWN} of {len(pictures):,} training pictures are shown."] if len(pictures) > SHOWN else []
    return [Section("finetune.html", content, notes)] if pictures else []


def caveats(record: Record) -> list[str]:
    """What the comparison does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The pictures to which the fine-tune added most."""
    ranked = [row for row in _ranked(record) if not row["control"]][:limit]
    names = [name for name in MODELS if any(name in row["similarities"] for row in ranked)]
    rows: list[list[str | Text]] = [
        [
            shown(row["added"], "{:+.2f}"),
            *(shown(row["similarities"].get(name), "{:.2f}") for name in names),
            *(shown(row["scores"].get(name), "{:.3g}") for name in ("base", "tuned")),
            row["id"],
            row["prompt"],
        ]
        for row in ranked
    ]
    columns = [("added", "right"), *((MODELS[name], "right") for name in names)]
    columns += [("score, base", "right"), ("fine-tune", "right"), ("picture", "left"), ("caption", "fill")]
    return terminal_table(columns, rows) if rows else None


def _ranked(record: Record) -> list[Json]:
    return sorted(record.done, key=lambda row: (row["added"] is None, -(row["added"] or 0.0), row["id"]))


def _named(summary: Json) -> list[tuple[str, str]]:
    said = {"base": "with its base", "repaired": "with the repaired one", "extrapolated": "when drawn beyond it"}
    return [(name, said[name]) for name in said if number(summary.get(f"copied_{name}")) is not None]


def _back(summary: Json, name: str, drawn: float) -> str:
    return f"{round((number(summary.get(f'copied_{name}')) or 0.0) * drawn):,}"


def _amount(summary: Json, key: str) -> str:
    return f"{shown(summary.get(key), '{:.2f}')} ({interval(summary.get(f'{key}_interval'))})"


def _tiles(record: Record, row: Json) -> Json:
    audit = record.path.parent
    tiles = {name: picture(audit, file) for name, file in row["best_files"].items()}
    return row | {"picture": picture(record.path, row["reference"]), "tiles": tiles}
