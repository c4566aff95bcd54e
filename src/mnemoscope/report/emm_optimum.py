"""Images from the optimal denoiser of a training set: how many are copies, and what they are copies of."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from mnemoscope.plots.ratio import quotient_histogram
from mnemoscope.report import emm_ratio
from mnemoscope.report.record import Card, Drawings, Record, Section
from mnemoscope.report.text import counted, interval, number, percent
from mnemoscope.run.reading import Json

CAVEATS = [
    "The optimum is what the loss asks for, not what a network learns: one that falls short of it copies less.",
    "Exact copies among the training images hide copies of them from the ratio; with copies merged they count.",
]


def check(raw: Json) -> Json:
    """A row of one image; its distances come when all are drawn."""
    row = emm_ratio.check(raw)
    return row | {"status": "ok"} if raw.get("status") == "ok" else row


def headline(record: Record) -> str:
    """The share of the images that are copies, with its interval."""
    ratio = number(record.summary.get("memorization_ratio_apart"))
    if ratio is None:
        return f"{counted(len(record.done), 'image')} drawn; the run was interrupted."
    summary = record.summary
    among = counted(int(number(summary.get("distinct")) or 0), "training image")
    of = counted(int(number(summary.get("images")) or 0), "image")
    said = interval(percent(summary.get("memorization_ratio_apart_interval")), "{:.1f}", " %")
    equal = int(number(summary.get("exact_copies")) or 0)
    return (
        f"{100 * ratio:.1f} % of {of} drawn from the optimum are memorized copies of one of {among} ({said}); "
        f"{equal:,} equal it in every pixel."
    )


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What was drawn from, and when an image counts as memorized."""
    said = (
        "No network: the denoiser that minimizes the training loss is the mean of the training images, weighted by how "
        "likely each of them became the noisy image, here in closed form and to the precision of float64. An image is "
        "memorized if its distance to the nearest training image is below 1/3 of that to the second nearest."
    )
    return [("The optimum", {"paper": "arXiv:2310.02664"}, said)]


def cards(record: Record) -> list[Card]:
    """The ratio, the coverage, and how much of the work a few training images decided."""
    made = emm_ratio.cards(record)
    evaluations, certified = (number(record.summary.get(key)) for key in ("evaluations", "certified"))
    images = number(record.summary.get("images"))
    if evaluations and images and certified is not None:
        each = f"{evaluations / images:.1f} evaluations an image"
        made.append(("Decided by a few", f"{100 * certified / evaluations:.0f} %", each))
    return made


def drawings(record: Record) -> Drawings:
    """How much closer the nearest training image is than the next."""
    values = np.array([row["quotient_apart"] for row in record.done if row["quotient_apart"] is not None])
    if values.size and values.max() > 0:
        hint = "Left of the dotted line is memorized."
        yield "quotients", "How much closer the nearest is", hint, quotient_histogram(values, threshold=1 / 3)


def sections(record: Record) -> list[Section]:
    """Images beside the training images nearest to them."""
    return emm_ratio.sections(record)


def caveats(record: Record) -> list[str]:
    """What the optimum does not say."""
    return CAVEATS if number(record.summary.get("duplicates")) else CAVEATS[:1]


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The images closest to one training image."""
    if any(row["quotient_apart"] is None for row in record.done):
        return None
    return emm_ratio.table(record, limit, console)
