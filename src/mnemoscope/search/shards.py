"""An index on disk: shards of vectors that are memory-mapped, tables of what each picture is, and what made them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.pictures.parquet import plain, read_whole
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.writing import sha256_of
from mnemoscope.search.metadata import misfit_meta, record_of
from mnemoscope.search.segments import Stretch, planned, segments

if TYPE_CHECKING:
    from mnemoscope.features import Identity

FORMAT, DTYPE = 1, np.dtype("<f2")
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("url", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("status", pa.string()),  # ok, unreadable, missing, removed
        ("reason", pa.string()),
        ("vector", pa.int64()),  # its place in the array; -1 for none
    ]
)
SPOILED = (OSError, ValueError, EOFError, pa.ArrowException)


class Damaged(Exception):
    """A shard that cannot be searched; `str` of it says why."""


@dataclass(frozen=True)
class Shard:
    """Pictures that follow one another: their vectors and a table with a row for each, readable or not.

    `stretch` says which pictures of the sources they are, `first` is the place of its first vector in the index,
    `count` how many it has. `generation` counts how often pictures were removed from it. `files` holds the checksums;
    it is empty for a shard that is not built.
    """

    folder: Path
    number: int
    stretch: Stretch
    first: int = 0
    count: int = 0
    files: tuple[tuple[str, str], ...] = ()
    generation: int = 0

    @property
    def name(self) -> str:
        return f"emb-{self.number:05d}" + (f".{self.generation}" if self.generation else "")

    @property
    def start(self) -> int:
        """The place of its first picture in all sources."""
        return self.stretch.start

    @property
    def listed(self) -> int:
        """How many pictures it has, readable or not."""
        return self.stretch.listed

    @property
    def array(self) -> Path:
        return self.folder / "shards" / f"{self.name}.npy"

    @property
    def rows(self) -> Path:
        return self.folder / "shards" / f"{self.name}.parquet"

    @property
    def record(self) -> Path:
        """What says that the shard is whole: its counts and the checksums of its files, written last."""
        return self.folder / "shards" / f"{self.name}.json"

    def vectors(self) -> Float[np.ndarray, "N D"]:
        """Vectors in float16, memory-mapped; raises `Damaged` if they cannot be read."""
        try:
            stored = np.load(plain(self.array), mmap_mode="r" if self.count else None, allow_pickle=False)
        except SPOILED as e:
            raise Damaged(f"{self.array.name} cannot be read") from e
        if stored.ndim != 2 or stored.dtype != DTYPE or len(stored) != self.count:
            raise Damaged(f"{self.array.name} holds other vectors")
        return stored

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of all pictures; raises `Damaged` if they cannot be read."""
        try:
            return read_whole(self.rows, columns, rows=4096)
        except SPOILED as e:
            raise Damaged(f"{self.rows.name} cannot be read") from e

    def listed_rows(self) -> Iterator[Json]:
        """Rows of the pictures that have a vector, in the order of the vectors."""
        for batch in self.table().to_batches(max_chunksize=4096):
            yield from (row for row in batch.to_pylist() if row["vector"] >= 0)

    def check(self) -> None:
        """Raise `Damaged` unless both files are there and as they were written."""
        if not self.files:
            raise Damaged("not built")
        for name, checksum in self.files:
            try:
                if sha256_of(self.folder / "shards" / name) != checksum:
                    raise Damaged(f"{name} is damaged: its checksum is another one")
            except OSError as e:
                raise Damaged(f"{name} cannot be read: {e.strerror}") from e


@dataclass(frozen=True)
class Index:
    """Vectors of the pictures of a source; `meta` is what `meta.json` says of them."""

    folder: Path
    meta: Json
    shards: list[Shard]

    @classmethod
    def open(cls, folder: Path | str) -> "Index":
        """The index in a folder, finished or not; raises `UsageError` for a folder that is none."""
        folder = Path(folder)
        if not (folder / "meta.json").is_file():
            raise UsageError(f"{folder} holds no index; build one with: mnemoscope index build SOURCE --out {folder}.")
        meta = read_json(folder / "meta.json")
        if meta.get("format") != FORMAT:
            raise UsageError(f"{folder} has the index format {meta.get('format')}, not {FORMAT}; build it again.")
        if why := misfit_meta(meta):
            raise UsageError(f"{folder / 'meta.json'} is no index's ({why}); build it again with --overwrite.")
        return cls(folder, meta, _shards(folder, meta))

    @cached_property
    def identity(self) -> "Identity":
        from mnemoscope.features import Identity

        return Identity(**self.meta["identity"])

    @property
    def listed(self) -> int:
        """Pictures of the sources, readable or not."""
        return sum(shard.listed for shard in self.shards)

    @property
    def content(self) -> str:
        """A hash of what it is made of: of names and sizes of its source, of all sources and of what was removed."""
        contents = [segment["content"] for segment in segments(self.meta)]
        removed = self.meta.get("removed", [])
        if len(contents) == 1 and not removed:
            return str(contents[0])
        return hashlib.sha256(repr((contents, removed)).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Pictures that have a vector."""
        return sum(shard.count for shard in self.shards)

    def blocks(self) -> Iterator[Float[np.ndarray, "N D"]]:
        """Vectors shard by shard; raises `UsageError` at a shard that is not there or damaged."""
        for shard in self.shards:
            try:
                shard.check()
                yield shard.vectors()
            except Damaged as e:
                raise UsageError(f"{self.folder}: {e}; give the same index build command again to mend it.") from e


def _shards(folder: Path, meta: Json) -> list[Shard]:
    """All shards that were planned; those that `meta` does not know as far as their records are there."""
    known = meta.get("shards", [])
    shards, first = [], 0
    for number, stretch in enumerate(planned(meta)):
        shard = Shard(folder, number, stretch, first)
        if record := known[number] if number < len(known) else record_of(shard.record):
            files, generation = tuple(record["files"].items()), record.get("generation", 0)
            shard = Shard(folder, number, stretch, first, record["count"], files, generation)
        shards.append(shard)
        first += shard.count
    return shards
