"""Pictures in tables: parquet files with image bytes, and datasets of the hub or on the disk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.errors import UsageError
from mnemoscope.pictures.captions import said_of
from mnemoscope.pictures.columns import CAPTION_COLUMNS, find, short
from mnemoscope.pictures.files import read_file
from mnemoscope.pictures.links import problem
from mnemoscope.pictures.parquet import batches, schema_of
from mnemoscope.pictures.picture import LARGEST, Picture, missing, unreadable
from mnemoscope.run.reading import Json

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes", "data")
SAID_COLUMNS = ("url", "kind", "class", "label", "seed", "status", "error_message")
ROWS = 32  # read at once


@dataclass(frozen=True)
class Parquet:
    """Rows of a parquet file, each with an encoded image; `places` are the rows that are meant."""

    path: Path
    name: str
    column: str | None
    places: Sequence[int]

    @classmethod
    def of(cls, path: Path, name: str, column: str | None) -> "Parquet":
        """All rows of a file; raises `UsageError` if none of its columns can be the images."""
        chosen(schema_of(path), name, column)
        return cls(path, name, column, range(pq.read_metadata(path).num_rows))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Picture]:
        with pq.ParquetFile(self.path, memory_map=True) as file:
            image, columns = chosen(file.schema_arrow, self.name, self.column)
            for row, values in _rows(file, columns, self.places):
                yield picture(f"{self.name}:{row}", values, image, self.column)

    def cut(self, places: Sequence[int]) -> "Parquet":
        return replace(self, places=places)

    def listing(self) -> list[str]:
        return [f"{self.name} {self.path.stat().st_size} {len(self)}"]


@dataclass(frozen=True)
class Dataset:
    """Rows of a dataset that the `datasets` library has loaded; `places` are those that are meant."""

    rows: Any
    name: str
    column: str | None
    places: Sequence[int]
    homes: tuple[Path, ...] = ()  # folders that files which rows name must lie in

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Picture]:
        image, columns = chosen(self.rows.features.arrow_schema, self.name, self.column)
        table = self.rows.select_columns(columns).with_format("arrow")
        for row in self.places:
            (values,) = table[row : row + 1].to_pylist()
            yield picture(f"{self.name}:{row}", values, image, self.column, self.homes)

    def cut(self, places: Sequence[int]) -> "Dataset":
        return replace(self, places=places)

    def listing(self) -> list[str]:
        return [f"{self.name} {len(self)} {self.rows.features}"]


def dataset(name: str, column: str | None) -> Dataset:
    """A dataset of the hub, `hub:owner/name[:split]`, or the folder of one that was saved; raises `UsageError`."""
    try:
        import datasets
    except ImportError as e:
        raise UsageError(f"Reading {name} needs datasets; run pip install 'mnemoscope[data]'.") from e
    is_hub = name.startswith("hub:")
    place, split = on_hub(name) if is_hub else (name, "")
    load: Callable[[], Any] = (
        (lambda: datasets.load_dataset(place, split=split or None))
        if is_hub
        else (lambda: datasets.load_from_disk(name))
    )
    try:
        loaded = load()
    except Exception as e:  # the hub, the cache, the builders and their parsers each raise their own
        reason = short(f"{type(e).__name__}: {e}")
        raise UsageError(f"{name} cannot be loaded ({reason}); check name, split and network.") from e
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            mark = ":" if is_hub else "/"
            raise UsageError(f"{name} has the splits {', '.join(loaded)}; name one: {name}{mark}{next(iter(loaded))}.")
        (loaded,) = loaded.values()
    encoded = {c: datasets.Image(decode=False) for c, f in loaded.features.items() if isinstance(f, datasets.Image)}
    for each, undecoded in encoded.items():
        loaded = loaded.cast_column(each, undecoded)
    chosen(loaded.features.arrow_schema, name, column)
    homes = _caches(datasets) if is_hub else (Path(name).resolve(),)
    return Dataset(loaded, place if is_hub else Path(name).name, column, range(len(loaded)), homes)


def on_hub(name: str) -> tuple[str, str]:
    """Name and split of a dataset of the hub, `hub:owner/name[:split]`; raises `UsageError`."""
    place, _, split = name.removeprefix("hub:").partition(":")
    if not place:
        raise UsageError(f"{name}: no dataset is named; write hub:owner/name or hub:owner/name:split.")
    if place.isidentifier() and find_spec(
        f"datasets.packaged_modules.{place}"
    ):  # would read the current folder's files
        raise UsageError(f"{name}: {place} is a format of files, not a dataset; write hub:owner/name or give a folder.")
    return place, split


def _caches(datasets: Any) -> tuple[Path, ...]:
    """Where the hub's files lie after they were loaded."""
    from huggingface_hub.constants import HF_HUB_CACHE

    named = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    return tuple(Path(each).resolve() for each in named)


def chosen(schema: pa.Schema, name: str, column: str | None) -> tuple[str, list[str]]:
    """The column of a table that holds images, and all columns that say something of them; raises `UsageError`."""
    if column is not None and column not in schema.names:
        raise UsageError(f"{name} has no column {short(column)!r}; it has {short(', '.join(schema.names))}.")
    images = [field.name for field in schema if _holds_bytes(field.type)]
    image = find(images, IMAGE_COLUMNS) or (images[0] if len(images) == 1 else "")
    if not image:
        held = f"its columns {', '.join(images)} could" if images else "none of its columns can"
        raise UsageError(f"{name}: {held} be the images; call the one that holds encoded images image.")
    wanted = {image, column or find(schema.names, CAPTION_COLUMNS), *(find(schema.names, (c,)) for c in SAID_COLUMNS)}
    return image, [name for name in schema.names if name in wanted]


def holds_images(file: Path) -> bool:
    """Whether a parquet file has a column of bytes; True for one that cannot be read, as its reader will say."""
    try:
        return any(_holds_bytes(field.type) for field in schema_of(file))
    except (pa.ArrowException, OSError, ValueError):
        return True


def picture(key: str, row: Json | None, image: str, column: str | None, homes: Sequence[Path] = ()) -> Picture:
    """The picture of a row; a file that the row names is read only if it lies in one of the data set's own folders."""
    if row is None:
        return Picture(key, unreadable("its part of the parquet file is damaged, or far larger than the file"))
    held = row.pop(image)
    data, path = (held.get("bytes"), held.get("path")) if isinstance(held, dict) else (held, None)
    described = said_of(row, column)
    read: Callable[[], bytes] = missing(problem(row) or "no image in its row")
    if data is not None:
        is_large = len(data) > LARGEST
        read = unreadable(f"more than {LARGEST >> 20} MiB") if is_large else partial(bytes, data)
    elif path and homes:
        read = _file_of(str(path), homes)
    return Picture(key, read, described.captions, described.url, described.kind, described.label, described.seed)


def _file_of(path: str, homes: Sequence[Path]) -> Callable[[], bytes]:
    try:
        file = (homes[0] / path).resolve()
    except (OSError, ValueError, RuntimeError):
        return unreadable("its row names a file that cannot be looked up")
    if not any(file.is_relative_to(home) for home in homes):
        return unreadable("its row names a file outside of the data set, which is not opened")
    return partial(read_file, file)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in kinds)


def _rows(file: pq.ParquetFile, columns: list[str], wanted: Sequence[int]) -> Iterator[tuple[int, Json | None]]:
    """The rows at these places, which rise; None for those of damaged groups. Groups without any are not read."""
    first, left = 0, set(wanted)
    for group in range(file.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        place = first
        try:
            reached = not left.isdisjoint(range(first, end))
            for batch in batches(file, group, columns, ROWS) if reached else ():
                rows = batch.to_pylist() if not left.isdisjoint(range(place, place + len(batch))) else []
                for row in rows:
                    if place in left:
                        yield place, row
                    place += 1
                place += 0 if rows else len(batch)
        except (pa.ArrowException, OSError, ValueError):
            yield from ((each, None) for each in range(place, end) if each in left)
        first = end
