"""Rewrite runs: prompts before and after, with their scores."""

import re
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope.errors import plain
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, grouped, listed
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, interval, number, shown
from mnemoscope.run.reading import Json
from mnemoscope.stats import mean_interval, wilson_interval

TABLE_ROWS = 1000
CAVEATS = [
    "A rewritten prompt whose score fell may still draw its training image: look at the images, and measure them.",
    "Rewriting keeps the score low only if the image asked for stays the same: read the rewrites.",
]
Piece = tuple[str, bool]  # a stretch of a prompt, and whether it was chosen to be rewritten


def check(raw: Json) -> Json:
    """A row with its texts and scores; without a rewrite it has failed."""
    row = checked(raw) | {key: number(raw.get(key)) for key in ("score_before", "score_after", "level", "k")}
    chosen = [each for each in listed(raw.get("chosen")) if isinstance(each, dict)]
    row |= {"chosen": chosen, "rewriter": str(raw.get("rewriter") or ""), "selected": raw.get("selected") is True}
    text = raw.get("rewrite")
    if not isinstance(text, str):
        return failed(row, "it has no rewrite") | {"rewrite": ""}
    return row | {"rewrite": text}


def headline(record: Record) -> str:
    """How many rewrites there are, and what became of the score."""
    rows, pairs = record.done, _pairs(record)
    by = " and ".join(dict.fromkeys(row["rewriter"] for row in rows if row["rewriter"]))
    made = f"{counted(len(rows), 'rewrite')} of {counted(len(_prompts(rows)), 'prompt')}{f' by {by}' if by else ''}"
    if not pairs:
        return f"{made}; they were not scored again."
    before, after = (float(np.median([row[key] for row in pairs])) for key in ("score_before", "score_after"))
    told = f"{made}; the median score {_verb(before, after)} from {before:.3g} to {after:.3g}"
    return f"{told}{_below(record, pairs)}."


def _verb(before: float, after: float) -> str:
    if after < before:
        return "falls"
    return "rises" if after > before else "stays"


def about(record: Record) -> list[tuple[str, Any, str]]:
    """Rewrites need no word of explanation beside the table's own."""
    return []


def cards(record: Record) -> list[Card]:
    """Rewrites, and how many of them fell below the threshold, in all and at each level."""
    made: list[Card] = [("Rewrites", f"{len(record.done):,}", f"of {counted(len(_prompts(record.done)), 'prompt')}")]
    pairs, limit = _pairs(record), threshold(record)
    if limit is None:
        return made
    levels = sorted({row["level"] for row in pairs if row["level"] is not None})
    for name, rows in [("", pairs), *((f", level {v:g}", [r for r in pairs if r["level"] == v]) for v in levels)]:
        high = [row for row in rows if row["score_before"] >= limit]
        if high and (not name or len(levels) > 1):
            shares = by_prompt(high, limit)
            ends = interval(_within(shares, len(high)), "{:.0f}", " %")
            of = f"of {counted(len(high), 'rewrite')} of {counted(len(shares), 'prompt')} above it, {ends}"
            made.append((f"Fell below the threshold{name}", f"{100 * _fell_share(high, limit):.0f} %", of))
    return made


def drawings(record: Record) -> Drawings:
    """No figure besides the bars of the table."""
    yield from ()


def sections(record: Record) -> list[Section]:
    """All rewrites in one table."""
    limit = threshold(record)
    scores = [v for row in record.done for key in ("score_before", "score_after") if (v := row[key]) is not None]
    low, span = min([0.0, *scores]), (max([0.0, *scores]) - min([0.0, *scores])) or 1.0

    def place(value: float | None) -> float | None:
        return None if value is None else float(np.clip(100 * (value - low) / span, 0, 100))

    rows = [
        row
        | {"pieces": pieces(row["prompt"], row["chosen"]), "fell": fell(row, limit)}
        | {"before_at": place(row["score_before"]), "after_at": place(row["score_after"])}
        for row in record.done[:TABLE_ROWS]
    ]
    content = {"rows": rows, "total": len(record.done), "tick": place(limit), "threshold": limit}
    content |= {"is_scored": bool(scores), "is_chosen": len(_pairs(record)) > len(_prompts(record.done))}
    content |= {"has_levels": len({row["level"] for row in record.done}) > 1}
    return [Section("rewrites.html", content)] if rows else []


def caveats(record: Record) -> list[str]:
    """What a fallen score does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The first rewrites, the chosen words of each prompt marked."""
    above = threshold(record)
    cells: list[list[str | Text]] = []
    columns = [("score", "right"), ("threshold", "left"), ("prompt, and its rewrite", "fill")]
    for row in record.done[:limit]:
        text = Text()
        for piece, is_chosen in pieces(row["prompt"], row["chosen"]):
            bare = console.color_system is None and is_chosen
            text.append(f"[{plain(piece)}]" if bare else plain(piece), "bold underline" if is_chosen else "dim")
        text.append(f"\n{plain(row['rewrite'])}")
        verdict = {True: cell("below", "green"), False: cell("above", "bold red"), None: cell("-")}
        cells.append([f"{shown(row['score_before'])} → {shown(row['score_after'])}", verdict[fell(row, above)], text])
    if above is None:
        columns, cells = [columns[0], columns[2]], [[score, text] for score, _, text in cells]
    return terminal_table(columns, cells, wrap=True) if cells else None


def threshold(record: Record) -> float | None:
    """The score from which on a prompt is flagged, wherever the run says it."""
    places = (record.summary, record.part("settings"), *record.done[:1])
    return next((found for place in places if (found := number(place.get("threshold"))) is not None), None)


def fell(row: Json, limit: float | None) -> bool | None:
    """Whether the rewritten prompt scores below the threshold; None where that is not known."""
    return None if limit is None or row["score_after"] is None else row["score_after"] < limit


def pieces(prompt: str, chosen: list[Json]) -> list[Piece]:
    """The prompt in stretches, those marked that were chosen; a word that is not found in it is not marked.

    Of a repeated word, the last one is meant that has no more words before it than its first token has tokens.
    """
    spans: set[tuple[int, int]] = set()
    for each in chosen:
        first, word = number(each.get("first")), str(each.get("word", "")).strip()
        whole = r"(?<!\w){}(?!\w)" if word[:1].isalnum() and word[-1:].isalnum() else "{}"
        places = [match.span() for match in re.finditer(whole.format(re.escape(word)), prompt)] if word else []
        own = [s for s in places if s not in spans and (first is None or len(prompt[: s[0]].split()) <= first)]
        spans |= set(own[-1:])
    found, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            found += [(prompt[at:start], False), (prompt[start:end], True)]
            at = end
    return [piece for piece in [*found, (prompt[at:], False)] if piece[0]]


def by_prompt(rows: list[Json], limit: float) -> dict[str, float]:
    """The share of each prompt's rewrites that fell below the threshold."""
    groups = grouped(rows, lambda row: row["prompt_id"])
    return {name: _fell_share(own, limit) for name, own in groups.items()}


def _fell_share(rows: list[Json], limit: float) -> float:
    return float(np.mean([row["score_after"] < limit for row in rows]))


def _within(shares: dict[str, float], rewrites: int) -> list[float] | None:
    """The interval of the share, in percent, over prompts: rewrites of one prompt are not independent of each other."""
    values = np.array(list(shares.values()))
    if rewrites == len(values):
        return [100 * end for end in wilson_interval(int(values.sum()), len(values))]
    return [100 * end for end in mean_interval(values)] if len(values) > 1 else None


def _prompts(rows: list[Json]) -> set[str]:
    return {row["prompt_id"] for row in rows}


def _pairs(record: Record) -> list[Json]:
    return [row for row in record.done if row["score_before"] is not None and row["score_after"] is not None]


def _below(record: Record, pairs: list[Json]) -> str:
    """What became of the prompts above the threshold, as the end of a sentence."""
    if (limit := threshold(record)) is None:
        return ""
    shares = by_prompt([row for row in pairs if row["score_before"] >= limit], limit)
    if not shares:
        return f"; none was above the threshold {limit:.3g} before"
    some, every = (sum(test(share) for share in shares.values()) for test in (lambda s: s > 0, lambda s: s == 1))
    of = f"of {counted(len(shares), 'prompt')} above the threshold {limit:.3g}"
    if len(pairs) == len(_prompts(pairs)):
        return f"; {some:,} {of} fell below it"
    return f"; {of}, {some:,} {'has' if some == 1 else 'have'} a rewrite below it, and for {every:,} all are"
