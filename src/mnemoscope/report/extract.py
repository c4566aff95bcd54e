"""Extract runs: which images came out of several seeds, by which prompts, and for how many evaluations."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

SHOWN = 60  # hits on a page
PAPER = {"name": "extract", "paper": "arXiv:2407.17095 (search), arXiv:2301.13188 (copies), arXiv:2305.08694 (edges)"}
PAPER |= {"summary": "One-step scores of prompts out of the vocabulary, then images from several seeds, compared."}
CAVEATS = [
    "A search that finds nothing proves nothing: another seed or a larger budget may find what it missed.",
    "An image that comes out whatever the seed need not be a training image: a prompt may leave nothing open. "
    "Training images at hand (--references) decide.",
]


def check(raw: Json) -> Json:
    """A row with its score, or with what its images say of one another."""
    row = checked(raw) | {"stage": str(raw.get("stage") or "score"), "score": number(raw.get("score"))}
    row |= {"hit": raw.get("hit") is True, "hit_of": raw.get("hit_of"), "match": raw.get("match")}
    row |= {"files": [str(f) for f in listed(raw.get("files"))], "alike": [a is True for a in listed(raw.get("alike"))]}
    for name in ("distances", "similarities"):
        row[name] = [v for each in listed(raw.get(name)) if (v := number(each)) is not None]
    row |= {name: number(raw.get(name)) for name in ("clique", "edges", "agreement")}
    if row["status"] == "ok" and row["stage"] == "draw" and not row["files"]:
        return failed(row, "the row has no images")
    return row


def _hits(record: Record) -> list[Json]:
    return [row for row in record.done if row["hit"] and row["hit_of"] in (None, row.get("prompt_id"))]


def headline(record: Record) -> str:
    """How many images were found, for how many evaluations."""
    spent = shown(record.summary.get("network_evaluations"), "{:.0f}")
    found = counted(len(_hits(record)), "image")
    least, images = (shown(record.part("settings").get(name), "{:.0f}") for name in ("least", "images"))
    return f"{found} came out of {least} or more of {images} seeds, in a search of {spent} network evaluations."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the search is, and from when on it drew."""
    settings = record.part("settings")
    least, images, below = (shown(settings.get(n), "{:.3g}") for n in ("least", "images", "below"))
    said = f"A prompt is a hit if {least} of its {images} images are all alike: a tiled distance below {below}. "
    floor = shown(record.summary.get("score_floor"), "{:.3g}")
    return [("How it was searched", PAPER, f"{said}Prompts with a one-step score from {floor} on were drawn.")]


def cards(record: Record) -> list[Card]:
    """Images, prompts, evaluations."""
    summary = record.summary
    drawn, scored = (shown(summary.get(f"prompts_{n}"), "{:.0f}") for n in ("drawn", "scored"))
    budget = shown(summary.get("budget"), "{:.0f}")
    prompts = counted(int(number(summary.get("hit_prompts")) or 0), "prompt")
    return [
        ("Images found", str(len(_hits(record))), f"by {prompts}; hits.jsonl lists them with their evidence"),
        ("Prompts scored", scored, f"one step each, {drawn} of them drawn; budget {budget}"),
    ]


def drawings(record: Record) -> Drawings:
    """Images found against evaluations."""
    found = [v for each in listed(record.summary.get("found_at")) if (v := number(each)) is not None]
    spent = number(record.summary.get("network_evaluations"))
    if found and spent:
        hint = "A curve that still rises at its end says that a larger budget would find more."
        yield "found", "Images found against evaluations", hint, plots.found_plot({"this search": found}, spent)


def sections(record: Record) -> list[Section]:
    """Each image with its prompt and seeds."""
    hits = _hits(record)
    rows = [_shown(record, row) for row in hits[:SHOWN]]
    notes = [f"{SHOWN} of {len(hits)} images are shown."] if len(hits) > SHOWN else []
    return [Section("extracted.html", {"rows": rows}, notes)] if rows else []


def caveats(record: Record) -> list[str]:
    """What a search does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The hits in the order in which they were found."""
    rows: list[list[str | Text]] = [
        [
            shown(row["score"], "{:.3g}"),
            f"{sum(row['alike'])}/{len(row['alike'])}",
            shown(row["edges"], "{:.3f}"),
            row["prompt"],
        ]
        for row in _hits(record)[:limit]
    ]
    columns = [("score", "right"), ("alike", "right"), ("edges", "right"), ("prompt", "fill")]
    return terminal_table(columns, rows) if rows else None


def _shown(record: Record, row: Json) -> Json:
    tiles = zip(row["files"], row["alike"], row["distances"], strict=False)
    return row | {"tiles": [(picture(record.path, file), alike, apart) for file, alike, apart in tiles]}
