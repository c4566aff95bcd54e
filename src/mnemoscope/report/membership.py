"""Membership runs: whether a set of pictures was trained on, and what a test of so many pictures could have found."""

from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.record import Card, Drawings, Record, Section, by_score, checked, failed, listed, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, ends, interval, number, shown
from mnemoscope.run.reading import Json

SHOWN = 60  # pictures on a page
PAPER = {"name": "test of a set", "paper": "arXiv:2411.12858"}
PAPER |= {"summary": "Signals of each picture, one score, and a permutation test against pictures that were held out."}
CAVEATS = [
    "The test is as good as the held-out pictures: they have to be drawn as those under question were, by the same "
    "hands, at the same time, in the same files. What sets them apart without the model looks like membership.",
    "No evidence is no proof that the pictures were not used: it says that a difference as large as the one above "
    "would have been found.",
    "A set of which only a part was trained on gives a smaller difference.",
]
VERDICTS = {
    "used": "The model knows this set better than held-out pictures: it was used, if they were drawn alike",
    "no evidence": "There is no evidence that the set was trained on",
    "undecided": "Undecided: the sets differ without the model, too",
}


def check(raw: Json) -> Json:
    """A row with its file, set, score and rate of false alarms."""
    row = checked(raw) | {key: str(raw.get(key) or "") for key in ("file", "role")}
    row |= {"false_positive_rate": number(raw.get("false_positive_rate")), "named": raw.get("named") is True}
    if row["status"] == "ok" and not part(raw, "signals"):
        return failed(row, "the row has no signals")
    return row


def headline(record: Record) -> str:
    """The verdict with p and AUC."""
    said = VERDICTS.get(str(record.summary.get("verdict")))
    if said is None:
        return f"{counted(len(record.done), 'picture')} looked at before the run stopped."
    p = number(record.summary.get("p"))
    if p is None:
        return f"Undecided: {counted(len(record.done), 'picture')} could be read, too few for a p."
    auc = f"AUC {shown(record.summary.get('auc'), '{:.2f}')}, {interval(record.summary.get('auc_interval'))}"
    blind = f" (p = {shown(record.summary.get('blind_p'), '{:.2g}')})" if said.startswith("Undecided") else ""
    return f"{said}{blind}: p = {p:.2g}, {auc}, {_sizes(record)}."


def _sizes(record: Record) -> str:
    pictures, held_out = (int(number(record.summary.get(key)) or 0) for key in ("pictures", "held_out"))
    return f"{counted(pictures, 'picture')} against {held_out:,} held out"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """How a set is tested."""
    said = "p is the share of permutations of the two sets that differ as much, the fit of the score repeated in each. "
    plain = "Looks of a picture that need no model are taken from its signals first. "
    adjusted = plain if record.part("settings").get("adjust") is True else ""
    return [("How the set was tested", PAPER, f"{said}{adjusted}An AUC of 0.5 is chance.")]


def cards(record: Record) -> list[Card]:
    """p, AUC, the test without a model, and how many pictures it takes."""
    summary = record.summary
    if number(summary.get("p")) is None:
        return []
    least, most = (number(each) for each in (listed(summary.get("needed_interval")) or [None, None]))
    reach = f"{least:,.0f} to {f'{most:,.0f}' if most else 'any number'} by its interval" if least else "unknown"
    few = number(summary.get("needed"))
    return [
        ("p of the set", shown(summary.get("p"), "{:.2g}"), f"false alarms at {shown(summary.get('alpha'), '{:g}')}"),
        ("AUC", shown(summary.get("auc"), "{:.2f}"), interval(summary.get("auc_interval"))),
        ("AUC without the model", shown(summary.get("blind_auc"), "{:.2f}"), f"p = {_blind(record)}"),
        ("Pictures needed", f"{few:,.0f}" if few else "–", f"of each set, to find this AUC 8 times in 10; {reach}"),
        ("AUC in reach", shown(summary.get("detectable_auc"), "{:.2f}"), "what these sets find 8 times in 10"),
    ]


def _blind(record: Record) -> str:
    return shown(record.summary.get("blind_p"), "{:.2g}")


def drawings(record: Record) -> Drawings:
    """Scores of both sets, each signal by itself, and how often fewer pictures would have been enough."""
    mine, others = (np.array(_scores(record, role)) for role in ("picture", "held-out"))
    if mine.size and others.size:
        names = {"memorized": "under question", "ordinary": "held out"}
        figure = plots.density_plot(mine, others, label="score", log=False, names=names, of="pictures")
        yield "scores", "Scores of both sets", "Further right: more like what was trained on.", figure
    alone = [
        {"arm": name, "group": "alone", "value": number(each.get("auc")), "interval": ends(each.get("auc_interval"))}
        for name, each in part(record.summary, "signals").items()
        if isinstance(each, dict) and number(each.get("auc")) is not None
    ]
    if alone:
        figure = plots.arms_plot(alone, x="AUC", reference=0.5)
        yield "signals", "Each signal by itself", "Right of the line: higher for the pictures under question.", figure
    points = [
        (n, {"value": share, "interval": ends(each.get("interval"))})
        for each in listed(record.summary.get("power"))
        if isinstance(each, dict)
        and (n := number(each.get("pictures"))) is not None
        and (share := number(each.get("share"))) is not None
    ]
    if len(points) > 1:
        figure = plots.doses_plot({"tests": points}, y="share that found the set", x="pictures of each set")
        hint = "Sets drawn from these ones; they share pictures, the more the larger they are."
        yield "power", "Fewer pictures", hint, figure


def _scores(record: Record, role: str) -> list[float]:
    return [row["score"] for row in record.done if row["role"] == role and row["score"] is not None]


def sections(record: Record) -> list[Section]:
    """The pictures under question by their score."""
    ranked = by_score(row for row in record.done if row["role"] == "picture" and row["score"] is not None)
    notes = [str(each) for each in listed(record.summary.get("notes"))]
    if len(ranked) > SHOWN:
        notes.append(f"{SHOWN} of {len(ranked)} pictures are shown, those of the highest score.")
    at_fpr, chance = (shown(record.summary.get(key), "{:.3g}") for key in ("at_fpr", "expected_by_chance"))
    content: Json = {"rows": ranked[:SHOWN], "at_fpr": at_fpr, "chance": chance}
    content["fpr"] = shown(100 * (number(record.summary.get("fpr")) or 0), "{:g}")
    return [Section("membership.html", content, notes)] if ranked else []


def caveats(record: Record) -> list[str]:
    """What a test of a set does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """Each signal by itself."""
    rows: list[list[str | Text]] = [
        [shown(each.get("auc"), "{:.2f}"), interval(each.get("auc_interval")), name]
        for name, each in part(record.summary, "signals").items()
        if isinstance(each, dict)
    ]
    return terminal_table([("AUC", "right"), ("interval", "left"), ("signal", "fill")], rows) if rows else None
