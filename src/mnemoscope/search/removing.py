"""Taking pictures out of an index: their vectors, captions and addresses go, and nothing is embedded again."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json, read_bytes
from mnemoscope.run.run import write_json
from mnemoscope.search.build import locked
from mnemoscope.search.finishing import finish, finished
from mnemoscope.search.shards import SCHEMA, Damaged, Index, Shard
from mnemoscope.search.writing import removed_row, store


def remove_pictures(folder: str | Path, keys: Collection[str]) -> Json:
    """Take every picture with one of the keys out of an index, and return what its `meta.json` says then.

    Of such a picture its key is kept, with the status "removed", and no vector, caption, address or hash. A kill leaves
    the index with all of them or with none. `index build` does not bring them back. Keys that were removed before are
    no mistake. Raises `UsageError` for keys that no picture has and for a shard that is not there or damaged, and
    removes nothing then.
    """
    folder, wanted = Path(folder), set(keys)
    finished(folder)
    with locked(folder):
        index = finished(folder)
        places = {shard.number: _places(index, shard, wanted) for shard in index.shards}
        known = {key for of_shard in places.values() for key in of_shard.values()}
        if strangers := sorted(wanted - known):
            raise UsageError(
                f"{len(strangers):,} of {len(wanted):,} keys are of no picture in {folder} (first: {strangers[0]}); "
                "give keys as index search and index duplicates list them."
            )
        gone = set(index.meta.get("removed", []))
        new = {shard.start + at for shard in index.shards for at in places[shard.number]} - gone
        records = list(index.meta["shards"])
        for shard in index.shards:
            if fresh := {at for at in places[shard.number] if shard.start + at in new}:
                records[shard.number] = _without(shard, fresh)
        if new:
            write_json(folder / "meta.json", index.meta | {"removed": sorted(gone | new), "shards": records})
        return finish(folder)


def read_keys(keys: Sequence[str], file: Path | None) -> list[str]:
    """Keys as they were given, and those of a text file, one a line; raises `UsageError` where there are none."""
    try:
        lines = read_bytes(file).decode("utf-8-sig").replace("\r\n", "\n").split("\n") if file else []
    except UnicodeDecodeError as e:
        raise UsageError(f"{file} cannot be read as text; give a file with a name of an image in each line.") from e
    if not (all_keys := [*keys, *(line for line in lines if line.strip())]):
        raise UsageError("No image was named; give names as arguments, or --keys with a file that lists them.")
    return all_keys


def _places(index: Index, shard: Shard, wanted: set[str]) -> dict[int, str]:
    """Places in a shard of pictures with one of the keys."""
    try:
        shard.check()
        names = shard.table(["key"]).column("key").to_pylist()
    except Damaged as e:
        raise UsageError(f"{index.folder}: {e}; give the same index build command again to mend it.") from e
    return {place: name for place, name in enumerate(names) if name in wanted}


def _without(shard: Shard, places: set[int]) -> Json:
    """Write the files of a shard without some of its pictures, beside those that it has, and say what they hold."""
    rows = shard.table().to_pylist()
    kept, vectors = [], 0
    for place, row in enumerate(rows):
        if place in places:
            rows[place] = dict(zip(SCHEMA.names, removed_row(row["key"]), strict=True))
        elif row["vector"] >= 0:
            kept.append(row["vector"])
            rows[place] = row | {"vector": vectors}
            vectors += 1
    newer = replace(shard, generation=shard.generation + 1)
    return store(newer, shard.vectors()[np.array(kept, np.int64)], pa.Table.from_pylist(rows, SCHEMA))
