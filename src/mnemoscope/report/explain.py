"""Explain runs: coloured words, a bar chart a prompt, several methods side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from mnemoscope import plots
from mnemoscope.report.pictures import data_uri
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, part
from mnemoscope.report.shares import coloured, read_words, shares, spaced, spoken, strength
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number
from mnemoscope.run.reading import Json
from mnemoscope.stats import mean_interval

SHOWN, CHARTS = 300, 12  # prompts with coloured words, and with a bar chart, on a page
STEPS = (0.02, 0.1, 0.25, 0.5)  # shares of the legend
SPECIAL = {
    "bos": "begin token",
    "eos": "end token",
    "padding": "padding",
    "other": "template and padding",
    "pooled_share": "share of the pooled vector",
}
CAVEATS = [
    "A word that carries much of a score is where to look, not proof that it was the word that was memorized.",
    "Values compare within one prompt and one method; shares compare methods.",
]


def check(raw: Json) -> Json:
    """A row with its words; without them it has failed."""
    row = checked(raw) | {"special": {key: number(part(raw, "special").get(key)) for key in SPECIAL}}
    words = read_words(raw.get("words"))
    if words is None:
        return failed(row, "it has no list of words, each with a finite sum") | {"words": []}
    return row | {"words": spaced(words, row["prompt"])}


def headline(record: Record) -> str:
    """How unevenly a prompt's words carry the attribution."""
    made = f"{counted(len(record.done), 'prompt')} explained by {record.method}"
    uneven = [row for row in record.done if len(row["words"]) > 1]
    tops = [_top(row["words"]) for row in uneven]
    if not tops:
        return f"{made}; none has more than one word to compare."
    if all(len({word["max"] for word in row["words"]}) == 1 for row in uneven):
        return f"{made}; it gives all words of a prompt one value."
    even = float(np.median([1 / len(row["words"]) for row in uneven]))
    carried = f"{100 * np.median(tops):.0f} % of it in the median prompt; even shares would be {100 * even:.0f} %"
    return f"{made}; the word with the most attribution carries {carried}."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What a word's value means."""
    score = part(record.part("settings"), "params").get("score")
    said = "A word's value is the sum of its tokens'." + (f" The score is {score}." if score else "")
    method = record.part("method") or {"name": record.method}
    return [("What the words' values mean", method, said)]


def cards(record: Record) -> list[Card]:
    """The share of the heaviest word, by label, and what the tokens outside the words carry."""
    groups = {True: "memorized", False: "ordinary"} if record.labelled else {None: ""}
    made: list[Card] = [("Prompts", f"{len(record.done):,}", f"explained by {record.method}")]
    for label, name in groups.items():
        rows = [row for row in record.done if len(row["words"]) > 1 and (label is None or row["label"] is label)]
        if rows:
            tops = 100 * np.array([_top(row["words"]) for row in rows])
            ends = ", 95 % interval {:.0f} to {:.0f} %".format(*mean_interval(tops)) if tops.size > 1 else ""
            said = f"mean share of {counted(tops.size, 'prompt')}{ends or ': too few for an interval'}"
            made.append((f"Heaviest word{f', {name} prompts' if name else ''}", f"{tops.mean():.0f} %", said))
    outside = {name: [row["special"][key] for row in record.done] for key, name in SPECIAL.items()}
    values = {name: np.median(known) for name, own in outside.items() if (known := [v for v in own if v is not None])}
    if any(values.values()):
        made.append(
            (", ".join(values).capitalize(), " · ".join(f"{value:.2g}" for value in values.values()), "median values")
        )
    return made


def drawings(record: Record) -> Drawings:
    """No figure besides those of the words."""
    yield from ()


def sections(record: Record) -> list[Section]:
    """Each prompt in coloured words, the first ones with a bar chart."""
    rows = [row | {"spoken": spoken(row["words"]), "chart": None, "is_cut": _cut(row)} for row in record.done[:SHOWN]]
    for k, row in enumerate([row for row in rows if row["words"]][:CHARTS], 1):
        values = {record.method: [word["sum"] for word in row["words"]]}
        row["chart"] = _chart(record.path / "plots" / f"words-{k:02d}.png", row["words"], values, record.method)
    notes = (
        [f"Coloured words of {SHOWN} of {len(record.done):,} prompts are shown."] if len(record.done) > SHOWN else []
    )
    if len(record.done) > CHARTS:
        notes.append(f"The first {CHARTS} prompts have a bar chart; the values of all are in rows.jsonl.")
    return [Section("words.html", {"rows": rows, "special": SPECIAL, **legend(record.done)}, notes)] if rows else []


def caveats(record: Record) -> list[str]:
    """What an attribution does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The first prompts in coloured words."""
    rows = [(coloured(row["words"], console), _heaviest(row["words"])) for row in record.done[:limit]]
    columns = [(f"prompt, coloured by {record.method}", "fill"), ("heaviest word", "left")]
    return terminal_table(columns, rows, wrap=True) if rows else None


def compare(folder: Path, found: Sequence[tuple[str, Record]], names: Sequence[str]) -> Section:
    """Several explanations of the same prompts: coloured words below one another, and grouped bars of their shares.

    Shares of a method add up to 1 in each prompt. Prompts that only one run has, or that runs cut into other words,
    are left out and counted.
    """
    by_prompt: dict[str, dict[str, list[Json]]] = {}
    for name, (_, record) in zip(names, found, strict=True):
        for row in record.done:
            if row["words"]:
                by_prompt.setdefault(row["prompt"], {}).setdefault(name, row["words"])
    same = {p: own for p, own in by_prompt.items() if len(own) > 1 and len({_spelt(w) for w in own.values()}) == 1}
    rows = []
    for k, (prompt, own) in enumerate(list(same.items())[:CHARTS], 1):
        words = next(iter(own.values()))
        values = {name: shares([word["sum"] for word in each]) for name, each in own.items()}
        chart = _chart(folder / "plots" / f"words-compared-{k:02d}.png", words, values, "share of the prompt")
        rows.append({"prompt": prompt, "chart": chart, "methods": {name: spoken(each) for name, each in own.items()}})
    left = len(by_prompt) - len(same)
    everything = [row for _, record in found for row in record.done]
    content = {"rows": rows, "names": names, "total": len(same), "left": left, **legend(everything)}
    return Section("words_compared.html", content)


def legend(rows: Sequence[Json]) -> Json:
    """What the colours mean: shares with their strengths, and whether any word lowers a score."""
    has_negative = any(word["sum"] < 0 for row in rows for word in row["words"])
    return {"legend": [(f"{100 * share:g} %", strength(share)) for share in STEPS], "has_negative": has_negative}


def _chart(path: Path, words: Sequence[Json], values: Mapping[str, Sequence[int | float]], label: str) -> str:
    figure = plots.word_plot([word["word"] for word in words], values, label=label)
    return data_uri(plots.kept(figure, path), "png")


def _top(words: Sequence[Json]) -> float:
    return max(map(abs, shares([word["sum"] for word in words])))


def _heaviest(words: Sequence[Json]) -> str:
    if not words:
        return "-"
    own = shares([word["sum"] for word in words])
    k = max(range(len(own)), key=lambda k: abs(own[k]))
    return f"{words[k]['word'][:20]} {100 * own[k]:.0f} %"


def _cut(row: Json) -> bool:
    """Whether the prompt goes on after its last word, as it does past a text encoder's limit."""
    return sum(len("".join(word["word"].split())) for word in row["words"]) < len("".join(row["prompt"].split()))


def _spelt(words: Sequence[Json]) -> tuple[str, ...]:
    return tuple(word["word"] for word in words)
