"""How many pictures of a source have a caption, and which captions have no picture: counted, and said in one line."""

from collections.abc import Iterable, Mapping
from typing import Any, NotRequired, TypedDict

from mnemoscope.pictures.source import Source
from mnemoscope.run.schema import fits

NAMED = 5  # names without a picture that are told
SUFFIX = "_captions"  # of what a summary calls such counts


class Unfitting(TypedDict):
    """Captions and texts that fit no picture, and rows of captions files that have no text."""

    unmatched: NotRequired[int]
    empty: NotRequired[int]
    unmatched_names: NotRequired[list[str]]


class CaptionCounts(Unfitting):
    """What `caption_counts` tells; older runs know only the first two."""

    with_caption: int
    without_caption: int


class EmptyPrompts(TypedDict):
    """Captions of prompts that have no text: how many, and where the first ones stand."""

    count: int
    first: list[str]


def caption_counts(captioned: Iterable[bool], source: Source | None = None) -> CaptionCounts:
    """Pictures with a caption and without one, names of captions files that fit none, and rows without any text."""
    has = list(captioned)
    return {"with_caption": sum(has), "without_caption": len(has) - sum(has), **unfitting(source)}


def unfitting(source: Source | None) -> Unfitting:
    """What a source's files of captions say of none of its pictures."""
    unmatched = source.unmatched if source is not None else []
    empty = source.empty if source is not None else 0
    return {"unmatched": len(unmatched), "empty": empty, "unmatched_names": list(unmatched[:NAMED])}


def sentence(counts: Mapping[str, Any], what: str) -> str:
    """The counts in one line, of references for instance."""
    has, lacks = counts["with_caption"], counts["without_caption"]
    parts = [f"{has:,} of {has + lacks:,} {what} have a caption"]
    if unmatched := counts.get("unmatched", 0):
        named = ", ".join(counts.get("unmatched_names", ()))
        parts.append(f"{unmatched:,} captions or texts fit no picture ({named}{', ...' if unmatched > NAMED else ''})")
    if empty := counts.get("empty", 0):
        parts.append(f"{empty:,} rows of captions files have no text")
    return "; ".join(parts) + "."


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """A line for each of the counts in the summary of a run, called `reference_captions` and the like.

    Those of a training are in its `data`. What is no counts, in a summary that was edited, is left out.
    """
    data = summary.get("data")
    whole = {**summary, **(data if isinstance(data, dict) else {})}
    told = {key: value for key, value in whole.items() if key.endswith(SUFFIX) and fits(value, CaptionCounts)}
    lines = [sentence(value, key.removesuffix(SUFFIX).replace("_", " ") + "s") for key, value in told.items()]
    empty = whole.get("empty_prompts")
    if isinstance(empty, dict) and fits(empty, EmptyPrompts):
        places = ", ".join(empty["first"])
        lines.append(f"Rows of the prompts without a caption, which were left out: {empty['count']:,} ({places}).")
    return lines
