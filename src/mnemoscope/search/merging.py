"""Several indexes as one: their shards are copied, and nothing is embedded again."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.run.asked import asked_of
from mnemoscope.run.environment import environment
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json, write_json
from mnemoscope.run.writing import write_whole
from mnemoscope.search.build import is_whole, locked
from mnemoscope.search.finishing import finish, finished
from mnemoscope.search.segments import segments
from mnemoscope.search.shards import DTYPE, FORMAT, Damaged, Index, Shard


def merge_indexes(folders: Sequence[str | Path], out: str | Path) -> Json:
    """Make one index of several, their pictures in the order of the folders, and return what its `meta.json` says.

    It holds the same vectors and rows, under the names of its own shards; what was removed stays removed. The same call
    goes on where an earlier one was interrupted. Raises `UsageError` for fewer than two, for vectors of different
    kinds, for a source that two of them hold, for a damaged shard, and for a folder that holds something else.
    """
    from mnemoscope.features import comparable

    indexes = [finished(Path(folder)) for folder in folders]
    if len(indexes) < 2:
        raise UsageError(f"{len(indexes)} index was given to merge; give two or more.")
    for index in indexes[1:]:
        comparable(index.identity, indexes[0].identity)
    out, meta = Path(out), _planned(indexes)
    with locked(out):
        if not (out / "meta.json").is_file():
            write_json(out / "build.json", {**asked_of(out), **environment()})
            write_json(out / "meta.json", meta)
        held = Index.open(out)
        if {key: held.meta.get(key) for key in meta} != meta:
            raise UsageError(f"{out} holds an index of something else; give a new folder as --out.")
        originals = [shard for index in indexes for shard in index.shards]
        with Progress(transient=True) as bar:
            task = bar.add_task("merge", total=len(originals))
            for original, copy in zip(originals, held.shards, strict=True):
                if not is_whole(copy):
                    _copy(original, copy)
                bar.advance(task)
        return finish(out)


def _planned(indexes: Sequence[Index]) -> Json:
    """What `meta.json` says before shards are copied."""
    parts = [part for index in indexes for part in segments(index.meta)]
    names = [part["source"] for part in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{twice} is in two of the indexes; its pictures would be there twice: leave one out.")
    removed, first = [], 0
    for index in indexes:
        removed += [first + place for place in index.meta.get("removed", [])]
        first += index.listed
    meta = {"format": FORMAT, "dtype": DTYPE.name, "identity": indexes[0].meta["identity"]}
    return meta | parts[0] | {"added": parts[1:]} | ({"removed": removed} if removed else {})


def _copy(original: Shard, copy: Shard) -> None:
    """Copy the files of a shard and, last, its record, under the names of another one."""
    try:
        original.check()
    except Damaged as e:
        raise UsageError(f"{original.folder}: {e}; give the same index build command again to mend it.") from e
    record, checksums = read_json(original.record), dict(original.files)
    for old, new in ((original.array, copy.array), (original.rows, copy.rows)):
        with old.open("rb") as opened:
            write_whole(new, partial(shutil.copyfileobj, opened))
    names = {original.array.name: copy.array.name, original.rows.name: copy.rows.name}
    record["files"] = {names[name]: checksum for name, checksum in checksums.items()}
    record.pop("generation", None)
    write_whole(copy.record, json.dumps(record, ensure_ascii=False))
