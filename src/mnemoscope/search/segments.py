"""What an index is made of: one source, and those that were added to it or merged into it, each cut into shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Source, open_source
from mnemoscope.pictures.counting import Unfitting, unfitting
from mnemoscope.pictures.source import Joined
from mnemoscope.run.reading import Json


class Segment(Unfitting):
    """A source as it was indexed: `counts` are the pictures of its parts, `listed` those that were taken."""

    source: str
    captions: str | None
    column: str | None
    limit: int | None
    content: str
    counts: Any
    listed: int
    shard_size: int


class Stretch(NamedTuple):
    """Where the pictures of a shard are: from which place of which segment on, how many, and where that is in all."""

    segment: int
    place: int
    listed: int
    start: int


def segment_of(opened: Source, captions: Path | None, column: str | None, shard_size: int) -> Segment:
    """A source that is to be indexed; raises `UsageError` where it has no picture."""
    if not len(opened):
        raise UsageError(f"{opened.name} holds no picture; give a source with at least one.")
    return {
        "source": opened.name if opened.name.startswith("hub:") else str(Path(opened.name).absolute()),
        "captions": str(captions.absolute()) if captions else None,
        "column": column,
        "limit": opened.limit,
        "content": opened.content,
        "counts": opened.counts,
        "listed": len(opened),
        "shard_size": shard_size,
        **unfitting(opened),
    }


def segments(meta: Json) -> list[Json]:
    """All sources of an index, from what `meta.json` says: the first in its own fields, the rest as `added`."""
    return [{key: meta[key] for key in Segment.__annotations__ if key in meta}, *meta.get("added", ())]


def planned(meta: Json) -> Iterator[Stretch]:
    """The stretches of pictures that are shards."""
    start = 0
    for number, segment in enumerate(segments(meta)):
        for place in range(0, segment["listed"], segment["shard_size"]):
            listed = min(segment["shard_size"], segment["listed"] - place)
            yield Stretch(number, place, listed, start)
            start += listed


def reopened(segment: Json) -> Source:
    """A source as it was indexed; raises `UsageError` if it is no longer there or has changed."""
    captions = segment["captions"] and Path(segment["captions"])
    source = open_source(segment["source"], captions=captions, column=segment["column"], limit=segment["limit"])
    if source.content != segment["content"]:
        raise UsageError(f"{segment['source']} has changed since it was indexed; index it again to see its pictures.")
    return source.counted(segment["counts"])


def whole(meta: Json) -> Source:
    """All sources of an index, one after the other, as one; raises what `reopened` raises."""
    opened = [reopened(segment) for segment in segments(meta)]
    return opened[0] if len(opened) == 1 else Source(", ".join(s.name for s in opened), [Joined(s) for s in opened])
