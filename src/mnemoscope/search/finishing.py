"""The end of every change of an index: what its shards say of themselves is entered in `meta.json`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.pictures.counting import NAMED, CaptionCounts, Unfitting
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json, write_json
from mnemoscope.run.writing import clean
from mnemoscope.search.segments import segments
from mnemoscope.search.shards import Index

KEPT = ("count", "listed", "files", "generation")  # of what a shard says of itself, in `meta.json`
REASONS = 20  # of those why pictures have no vector, the most frequent ones are told


def finished(folder: Path) -> Index:
    """The index in a folder, to be changed; raises `UsageError` if its building was interrupted or there is none."""
    index = Index.open(folder)
    if not all(shard.files for shard in index.shards) or "shards" not in index.meta:
        raise UsageError(f"{folder} is not finished; give the command that was interrupted again first.")
    return index


def finish(folder: Path) -> Json:
    """Enter the finished shards in `meta.json`, and how many pictures have a caption, where all shards say so."""
    index = Index.open(folder)
    if "unmatched" not in index.meta:  # as earlier versions wrote it: those of the first source alone
        before = index.meta.get("picture_captions") or {}
        index.meta.update({key: before[key] for key in Unfitting.__annotations__ if key in before})
    records = [read_json(shard.record) for shard in index.shards]
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for record in records:
        statuses.update(record["statuses"])
        reasons.update(record["reasons"])
    meta = index.meta | {
        "count": sum(record["count"] for record in records),
        "statuses": dict(sorted(statuses.items())),
        "reasons": dict(reasons.most_common(REASONS)),
        "picture_captions": _captions(records, index),
        "shards": [{key: record[key] for key in KEPT if key in record} for record in records],
    }
    write_json(folder / "meta.json", meta)
    clear_old(folder)
    clean(folder)
    return meta


def _captions(records: Sequence[Json], index: Index) -> CaptionCounts | None:
    if not all("captioned" in record for record in records):
        return None  # built by an earlier version
    has = sum(record["captioned"] for record in records)
    told: CaptionCounts = {"with_caption": has, "without_caption": sum(record["listed"] for record in records) - has}
    parts = segments(index.meta)
    names = [name for part in parts for name in part.get("unmatched_names", ())]
    told |= {"unmatched": sum(part.get("unmatched", 0) for part in parts), "unmatched_names": names[:NAMED]}
    return told | {"empty": sum(part.get("empty", 0) for part in parts)}


def clear_old(folder: Path) -> None:
    """Delete the files of shards from before pictures were removed from them."""
    index = Index.open(folder)
    current = {file for shard in index.shards for file in (shard.array, shard.rows, shard.record)}
    for file in set((folder / "shards").glob("emb-*")) - current:
        file.unlink()
