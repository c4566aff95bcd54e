"""Adding a source to an index: its pictures come after all others, in shards of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mnemoscope.errors import UsageError
from mnemoscope.pictures import open_source
from mnemoscope.run.reading import Json
from mnemoscope.run.run import differing, write_json
from mnemoscope.search.build import build_shards, locked
from mnemoscope.search.finishing import finish, finished
from mnemoscope.search.segments import segment_of, segments
from mnemoscope.search.shards import Index
from mnemoscope.search.writing import made_by

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor


def add_source(
    folder: str | Path,
    source: str | Path,
    descriptor: "Descriptor | Callable[[], Descriptor]",
    *,
    captions: Path | None = None,
    column: str | None = None,
    limit: int | None = None,
    batch: int = 32,
    runner: Literal["local", "ray"] = "local",
    gpus: int | float = 0,
) -> Json:
    """Embed every picture of a further source into an index, and return what its `meta.json` says then.

    What the index holds stays as it is, byte for byte. The same call goes on where an earlier one was interrupted, and
    changes nothing where it was not. Raises `UsageError` for vectors of another kind, for a source that is in the index
    already and has changed since, for one without pictures, and for an index whose building was interrupted.
    """
    from mnemoscope.features import comparable

    folder = Path(folder)
    made = made_by(descriptor)
    comparable(made.identity, Index.open(folder).identity)
    with locked(folder):
        index = Index.open(folder)
        opened = open_source(source, captions=captions, column=column, limit=limit)
        segment = segment_of(opened, captions, column, index.meta["shard_size"])
        known = segments(index.meta)
        number = next((k for k, each in enumerate(known) if each["source"] == segment["source"]), len(known))
        if number == len(known):
            meta = finished(folder).meta
            write_json(folder / "meta.json", meta | {"added": [*known[1:], segment]})
        elif difference := differing({key: known[number].get(key) for key in segment}, dict(segment)):
            raise UsageError(f"{folder} holds {source} already, with a difference ({difference}); build it again.")
        build_shards(folder, {number: opened}, made if runner == "local" else descriptor, batch, runner, gpus)
        return finish(folder)
