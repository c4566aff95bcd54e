"""What the files beside an index's vectors say, checked when they are read: they may have been edited."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.schema import misfit_fields

MOST_SHARDS = 10**6


def record_of(file: Path) -> Json | None:
    """What a shard's record says; None where there is none that can be read."""
    try:
        record = read_json(file)
    except UsageError:
        return None
    return None if misfit_fields(record, ShardRecord) else record


class ShardRecord(TypedDict):
    """What is known of a finished shard."""

    count: int
    listed: int
    files: dict[str, str]
    statuses: NotRequired[dict[str, int]]
    reasons: NotRequired[dict[str, int]]


class Meta(TypedDict):
    """What `meta.json` has to say of an index."""

    listed: int
    shard_size: int
    identity: Json
    counts: Any
    content: str
    source: str
    captions: str | None
    column: str | None
    limit: int | None
    dtype: str
    shards: NotRequired[list[ShardRecord]]
    statuses: NotRequired[dict[str, int]]
    reasons: NotRequired[dict[str, int]]


def misfit_meta(meta: Json) -> str | None:
    """Why metadata are those of no index, in a few words; numbers that no index has are refused before they cost."""
    if why := misfit_fields(meta, Meta):
        return why
    if meta["listed"] < 0 or meta["shard_size"] < 1:
        return "its sizes are no sizes"
    count = -(-meta["listed"] // meta["shard_size"])
    if count > MOST_SHARDS:
        return f"it claims {count:,} shards"
    known = meta.get("shards")
    if known is not None and (len(known) != count or any(not 0 <= r["count"] <= r["listed"] for r in known)):
        return "its shards are not those of its size"
    identity = meta["identity"]
    is_one = set(identity) == set(IdentityFields.__annotations__) and not misfit_fields(identity, IdentityFields)
    return None if is_one and identity["dimension"] > 0 else "its identity is none"


class IdentityFields(TypedDict):
    """What vectors are told apart by."""

    features: str
    preset: str
    weights: str
    dimension: int
