"""Experiments: arms by measures, with intervals, and what they say of what was expected."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, grouped, listed, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, ends, number, shown
from mnemoscope.run.reading import Json

TITLES = {
    "own_similarity": "Similarity to the own picture",
    "own_nearest": "Own picture is the nearest",
    "copy_rate": "Copies of the own picture",
    "any_similarity": "Similarity to the nearest picture",
    "any_p95": "Its 95th percentile",
    "entropy_r": "r of similarity and entropy",
    "jpeg_r": "r of similarity and JPEG size",
    "dose_response": "Spearman of dose and similarity",
}
JUDGE, BESIDE = "own_similarity", "any_similarity"
TILES = 4  # subjects with images on a page
CAVEATS = [
    "Similarity to the own picture is the judge: on a small set any image is like some picture of it.",
    "A difference whose interval holds 0 is not told apart by this experiment; that is not the same as none.",
    "Small models on procedural scenes show whether an effect is there, not how large it is in a large model.",
]


def check(raw: Json) -> Json:
    """A row with its arm, group, picture and numbers."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("arm", "group", "picture", "file")}
    return row | {"seed": number(raw.get("seed"))}


def headline(record: Record) -> str:
    """The question, and how many of the expectations were met."""
    question = str(record.summary.get("question") or part(record.part("settings"), "content").get("question") or "")
    said = [str(each.get("verdict")) for each in _expected(record)]
    if not record.summary:
        return f"{question} {counted(len(record.done), 'image')} drawn before the experiment stopped.".strip()
    if not said:
        return f"{question} {counted(len(_arms(record)), 'arm')} compared.".strip()
    told = [f"{said.count(word)} {word}" for word in dict.fromkeys(said)]
    return f"{question} Of {counted(len(said), 'expectation')}: {', '.join(told)}.".strip()


def about(record: Record) -> list[tuple[str, Any, str]]:
    """How the arms are compared."""
    threshold = shown(record.summary.get("threshold"))
    text = (
        "Arms share the order of the data, the noise, the prompts and the seeds of images. Differences are paired, "
        f"from the arm {record.summary.get('baseline')}; intervals draw seeds anew, and of each seed its pictures. "
        f"Compared by {record.summary.get('features')}, a copy from {threshold}."
    )
    return [("How arms are compared", {"paper": record.summary.get("paper") or None}, text)] if record.summary else []


def cards(record: Record) -> list[Card]:
    """How much was done."""
    seeds = number(record.summary.get("seeds"))
    made: list[Card] = [("Images", f"{len(record.done):,}", f"of {counted(len(_arms(record)), 'arm')}")]
    return made + ([("Seeds", f"{seeds:.0f}", "each with other pictures and noise")] if seeds else [])


def drawings(record: Record) -> Drawings:
    """Similarity by arm, differences from the baseline, and the lines of doses."""
    for name, title in ((JUDGE, TITLES[JUDGE]), (BESIDE, TITLES[BESIDE])):
        if own := [entry for entry in _table(record, name) if entry["value"] is not None]:
            hint = "Marks are means, lines 95 % intervals."
            yield f"arms_{name}", title, hint, plots.arms_plot(own, x=title.lower())
    own = [entry for entry in _table(record, JUDGE) if entry.get("difference") is not None]
    if own:
        hint = f"Paired, from the arm {record.summary.get('baseline')}; left of the line is less copying."
        yield (
            "differences",
            "What each arm changes",
            hint,
            plots.arms_plot(own, x="difference of similarity to the own picture", key="difference", reference=0),
        )
    if families := _families(record):
        hint = "The dose 0 is the baseline."
        yield "doses", "Dose and response", hint, plots.doses_plot(families, y="similarity to own picture")


def sections(record: Record) -> list[Section]:
    """What was expected, the whole table, and images of some prompts under each arm."""
    entries = [entry | {"title": TITLES.get(entry["measure"], entry["measure"])} for entry in _table(record)]
    content = {"rows": entries, "expected": _expected(record), "titles": TITLES, "sheets": _sheets(record)}
    return [Section("experiment.html", content)] if entries else []


def caveats(record: Record) -> list[str]:
    """What a comparison of arms does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The judge, the nearest picture beside it, and the difference, for each arm and group."""
    beside = {(e["arm"], e["group"]): e for e in _table(record, BESIDE)}
    rows: list[list[str | Text]] = [
        [
            str(entry["arm"]),
            str(entry["group"]),
            _told(entry["value"], entry["interval"]),
            _told(beside.get((entry["arm"], entry["group"]), {}).get("value"), None),
            _told(entry["difference"], entry["difference_interval"], "{:+.3f}"),
        ]
        for entry in _table(record, JUDGE)
    ]
    columns = [("arm", "fill"), ("group", "left"), ("own picture", "right"), ("any", "right"), ("difference", "right")]
    return terminal_table(columns, rows, wrap=True) if rows else None


def _table(record: Record, measure: str | None = None) -> list[Json]:
    found = [each for each in listed(record.summary.get("table")) if isinstance(each, dict) and "arm" in each]
    keys = ("value", "interval", "difference", "difference_interval", "images", "pictures", "p", "family")
    filled = [dict.fromkeys(keys) | each for each in found if "group" in each and "measure" in each]
    return [each for each in filled if measure in (None, each["measure"])]


def _expected(record: Record) -> list[Json]:
    found = [each for each in listed(record.summary.get("expected")) if isinstance(each, dict)]
    return [dict.fromkeys(("arm", "against", "measure", "group", "sign", "difference", "interval")) | e for e in found]


def _arms(record: Record) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in record.done))


def _families(record: Record) -> dict[str, list[tuple[float, Json]]]:
    """Points of each family of arms with doses, of all groups together or of the only one."""
    arms = part(part(record.part("settings"), "content"), "arms")
    judged = _table(record, JUDGE)
    first = {entry["arm"]: entry for entry in reversed(judged)}  # the row of all groups is the first of its arm
    base = first.get(record.summary.get("baseline"))
    found: dict[str, list[tuple[float, Json]]] = {}
    for name in arms:
        own, entry = part(arms, name), first.get(name)
        if entry is not None and own.get("family") and (dose := number(own.get("dose"))) is not None:
            found.setdefault(str(own["family"]), [] if base is None else [(0.0, base)]).append((dose, entry))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in found.items()}


def _sheets(record: Record) -> list[Json]:
    """Of some pictures of the first seed an image of each arm."""
    own = [row for row in record.done if row["file"] and row["seed"] == 0]
    by_picture = list(grouped(own, lambda row: row["picture"]).items())
    step = max(1, len(by_picture) // TILES)
    sheets = []
    for name, rows in by_picture[::step][:TILES]:
        first = {row["arm"]: row for row in reversed(rows)}
        tiles = [
            first[arm] | {"picture_uri": picture(record.path, first[arm]["file"])}
            for arm in _arms(record)
            if arm in first
        ]
        sheets.append({"name": name, "prompt": rows[0]["prompt"], "tiles": tiles})
    return sheets


def _told(value: object, interval: object, form: str = "{:.3f}") -> str:
    found = ends(interval)
    between = "" if found is None else f" [{form.format(found[0])}, {form.format(found[1])}]"
    return shown(value, form) + between
