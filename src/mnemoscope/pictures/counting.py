"""How many pictures of a source have a caption, and which captions have no picture: counted, and said in one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from mnemoscope.pictures.source import Source

NAMED = 5  # names without a picture that are told
SUFFIX = "_captions"  # of what a summary calls such counts


def caption_counts(captioned: Iterable[bool], source: Source | None = None) -> dict[str, Any]:
    """Pictures with a caption and without one, names of captions files that fit none, and rows without any text."""
    has = list(captioned)
    unmatched = source.unmatched if source is not None else []
    counts: dict[str, Any] = {"with_caption": sum(has), "without_caption": len(has) - sum(has)}
    counts |= {"unmatched": len(unmatched), "empty": source.empty if source is not None else 0}
    return counts | {"unmatched_names": unmatched[:NAMED]}


def sentence(counts: Mapping[str, Any], what: str) -> str:
    """The counts in one line, of references for instance."""
    has, lacks = int(counts["with_caption"]), int(counts["without_caption"])
    parts = [f"{has:,} of {has + lacks:,} {what} have a caption"]
    if unmatched := int(counts.get("unmatched", 0)):
        named = ", ".join(map(str, counts.get("unmatched_names", ())))
        parts.append(f"{unmatched:,} captions or texts fit no picture ({named}{', ...' if unmatched > NAMED else ''})")
    if empty := int(counts.get("empty", 0)):
        parts.append(f"{empty:,} rows of captions files have no text")
    return "; ".join(parts) + "."


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """A line for each of the counts in the summary of a run, called `reference_captions` and the like.

    Those of a training are in its `data`.
    """
    data = summary.get("data")
    whole = {**summary, **(data if isinstance(data, dict) else {})}
    counted = {key: value for key, value in whole.items() if key.endswith(SUFFIX) and isinstance(value, dict)}
    told = {key: value for key, value in counted.items() if {"with_caption", "without_caption"} <= set(value)}
    lines = [sentence(value, key.removesuffix(SUFFIX).replace("_", " ") + "s") for key, value in told.items()]
    if isinstance(empty := whole.get("empty_prompts"), dict):
        places = ", ".join(map(str, empty.get("first", ())))
        lines.append(
            f"{int(empty.get('count', 0)):,} captions of the prompts have no text and were left out ({places})."
        )
    return lines
