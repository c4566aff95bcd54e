"""What the files beside an index's vectors say, checked when they are read: they may have been edited."""

from itertools import accumulate
from pathlib import Path
from typing import NotRequired, TypedDict

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.schema import misfit_fields
from mnemoscope.search.segments import Segment, segments

MOST_SHARDS = 10**6


def record_of(file: Path) -> Json | None:
    """What a shard's record says; None where there is none that can be read."""
    try:
        record = read_json(file)
    except UsageError:
        return None
    return None if misfit_fields(record, ShardRecord) else record


class KnownShard(TypedDict):
    """What `meta.json` says of a finished shard."""

    count: int
    listed: int
    files: dict[str, str]
    generation: NotRequired[int]


class ShardRecord(KnownShard):
    """What is written beside a finished shard."""

    statuses: dict[str, int]
    reasons: dict[str, int]
    captioned: NotRequired[int]  # earlier versions did not count them


class Meta(Segment):
    """What `meta.json` has to say of an index: of its first source, and of all.

    `added` are its further sources, `removed` the places of pictures that were taken out.
    """

    identity: Json
    dtype: str
    added: NotRequired[list[Segment]]
    removed: NotRequired[list[int]]
    shards: NotRequired[list[KnownShard]]
    statuses: NotRequired[dict[str, int]]
    reasons: NotRequired[dict[str, int]]


def misfit_meta(meta: Json) -> str | None:
    """Why metadata are those of no index, in a few words; numbers that no index has are refused before they cost."""
    if why := misfit_fields(meta, Meta):
        return why
    parts = segments(meta)
    if any(part["listed"] < 0 or part["shard_size"] < 1 for part in parts):
        return "its sizes are no sizes"
    count = sum(-(-part["listed"] // part["shard_size"]) for part in parts)
    if count > MOST_SHARDS:
        return f"it claims {count:,} shards"
    known = meta.get("shards", [])
    if len(known) not in _numbers(meta, parts) or any(not 0 <= r["count"] <= r["listed"] for r in known):
        return "its shards are not those of its size"
    if any(not 0 <= place < sum(part["listed"] for part in parts) for place in meta.get("removed", [])):
        return "it has no picture at a place that was removed"
    identity = meta["identity"]
    is_one = set(identity) == set(IdentityFields.__annotations__) and not misfit_fields(identity, IdentityFields)
    return None if is_one and identity["dimension"] > 0 else "its identity is none"


def _numbers(meta: Json, parts: list[Json]) -> set[int]:
    """How many shards may be known: those of all sources, or of all but the last ones, which are being added."""
    if "shards" not in meta:
        return {0}
    return set(accumulate(-(-part["listed"] // part["shard_size"]) for part in parts))


class IdentityFields(TypedDict):
    """What vectors are told apart by."""

    features: str
    preset: str
    weights: str
    dimension: int
