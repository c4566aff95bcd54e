"""Building an index: the source is cut into shards, each is written whole or not at all, finished ones are kept."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from rich.progress import Progress

from mnemoscope.environment import environment
from mnemoscope.errors import UsageError
from mnemoscope.pictures import Picture, Source, open_source
from mnemoscope.pictures.reading import Part
from mnemoscope.run import differing, read_json, write_json
from mnemoscope.search.embedding import embedded
from mnemoscope.search.ray_runner import map_shards
from mnemoscope.search.shards import DTYPE, FORMAT, SCHEMA, Damaged, Index, Shard, write_whole

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor

REASONS = 20  # of those why pictures have no vector, the most frequent ones are told


@dataclass(frozen=True)
class Job:
    """A shard to build: what it is, and the parts of the source that hold its pictures and no others."""

    shard: Shard
    parts: Sequence[Part]


def build_index(
    source: str | Path,
    out: str | Path,
    descriptor: "Descriptor | Callable[[], Descriptor]",
    *,
    captions: Path | None = None,
    column: str | None = None,
    limit: int | None = None,
    shard_size: int = 10_000,
    batch: int = 32,
    runner: Literal["local", "ray"] = "local",
    gpus: int | float = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Embed every picture of a source into an index in the folder `out`, and return what its `meta.json` says.

    The same call goes on where an earlier one was interrupted, killed or lost a file, and writes the same bytes.
    `descriptor` may be a function that makes one, which is called by each worker of Ray, with `gpus` of a GPU each.
    Raises `UsageError` for a folder that holds an index of something else (unless `overwrite`) or anything but an
    index, and for a source without pictures.
    """
    if shard_size < 1 or batch < 1:
        raise UsageError(f"The shard size {shard_size} and the batch size {batch} must be at least 1.")
    folder = Path(out)
    with _locked(folder):
        if overwrite:
            _clear(folder)
        opened = open_source(source, captions=captions, column=column, limit=limit)
        made = _made(descriptor)
        meta = _planned(folder, opened, made, captions, column, shard_size)
        if meta.get("shards") is None:
            write_json(folder / "build.json", environment())
            write_json(folder / "meta.json", meta)
        given = made if runner == "local" else descriptor
        _build(folder, opened, given, batch, runner, gpus)
        return _finish(folder)


def write_shard(
    descriptor: "Descriptor | Callable[[], Descriptor]",
    batch: int,
    job: Job,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Embed the pictures of a shard and write its array, its table and, last, its record."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    vectors: list[np.ndarray] = []
    made = _made(descriptor)
    for found in embedded(_pictures(job.parts), made, batch):
        width, height = found.size or (None, None)
        place = -1 if found.vector is None else len(vectors)
        if found.vector is not None:
            vectors.append(found.vector.astype(DTYPE))
        row = (found.picture.key, found.picture.caption, found.picture.url, width, height, found.sha256)
        for name, value in zip(SCHEMA.names, (*row, found.status, found.reason, place), strict=True):
            columns[name].append(_storable(value))
        advance(1)
    array = np.stack(vectors) if vectors else np.empty((0, made.identity.dimension), DTYPE)
    table = pa.table(columns, SCHEMA)
    shard = job.shard
    shard.array.parent.mkdir(parents=True, exist_ok=True)
    files = {
        shard.array.name: write_whole(shard.array, lambda f: np.save(f, array, allow_pickle=False)),
        shard.rows.name: write_whole(shard.rows, lambda f: pq.write_table(table, f, compression="zstd")),
    }
    counts = {"statuses": Counter(columns["status"]), "reasons": Counter(filter(None, columns["reason"]))}
    record = {"count": len(array), "listed": len(table), "files": files, **counts}
    write_whole(shard.record, lambda f: f.write(json.dumps(record, ensure_ascii=False).encode()))


def _build(
    folder: Path,
    opened: Source,
    descriptor: "Descriptor | Callable[[], Descriptor]",
    batch: int,
    runner: Literal["local", "ray"],
    gpus: int | float,
) -> None:
    shards = Index.open(folder).shards
    left = [shard for shard in shards if not _whole(shard)]
    jobs = (Job(shard, opened.cut(range(shard.start, shard.start + shard.listed))) for shard in left)
    with Progress(transient=True) as bar:
        total = sum(shard.listed for shard in shards)
        task = bar.add_task("index", total=total, completed=total - sum(shard.listed for shard in left))
        if runner == "local":
            work = partial(write_shard, descriptor, batch, advance=partial(bar.advance, task))
            for job in jobs:
                work(job)
            return
        results = map_shards(partial(write_shard, descriptor, batch), jobs, runner=runner, gpus=gpus)
        for shard, _ in zip(left, results, strict=True):
            bar.advance(task, shard.listed)


def _whole(shard: Shard) -> bool:
    try:
        shard.check()
    except Damaged:
        return False
    return True


def _planned(
    folder: Path, opened: Source, made: "Descriptor", captions: Path | None, column: str | None, shard_size: int
) -> dict[str, Any]:
    """What `meta.json` says before shards are built, or says already; raises `UsageError` if it is of other things."""
    if not made.unit:
        raise UsageError(f"Vectors of {made.identity} have no unit length; index with sscd, clip, dino or pixels.")
    asked = {
        "identity": asdict(made.identity),
        "shard_size": shard_size,
        "limit": opened.limit,
        "column": column,
        "content": opened.content,
    }
    if (folder / "meta.json").is_file():
        before = Index.open(folder).meta
        if difference := differing({key: before.get(key) for key in asked}, asked):
            what = f"{folder} holds an index of something else ({difference})"
            raise UsageError(f"{what}; use --overwrite or another --out.")
        opened.counted(before["counts"])
        return before
    if not len(opened):
        raise UsageError(f"{opened.name} holds no picture; give a source with at least one.")
    name = opened.name if opened.name.startswith("hub:") else str(Path(opened.name).absolute())
    where = {"source": name, "captions": captions and str(captions.absolute())}
    return {"format": FORMAT, "dtype": DTYPE.name, **where, "listed": len(opened), "counts": opened.counts} | asked


def _finish(folder: Path) -> dict[str, Any]:
    """Enter the finished shards in `meta.json`."""
    index = Index.open(folder)
    records = [read_json(shard.record) for shard in index.shards]
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for record in records:
        statuses.update(record["statuses"])
        reasons.update(record["reasons"])
    kept = ("count", "listed", "files")
    meta = index.meta | {
        "count": sum(record["count"] for record in records),
        "statuses": dict(sorted(statuses.items())),
        "reasons": dict(reasons.most_common(REASONS)),
        "shards": [{key: record[key] for key in kept} for record in records],
    }
    write_json(folder / "meta.json", meta)
    for left in (folder / "shards").glob(".emb-*.partial"):  # of a process that was killed
        left.unlink()
    return meta


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder that is new, empty or an index against other processes."""
    if folder.is_file() or (folder.is_dir() and not (folder / "meta.json").is_file() and _strangers(folder)):
        raise UsageError(f"{folder} is a file, or a folder that holds something else; give a new folder as --out.")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as e:
        raise UsageError(f"{folder} is in use by another process; wait for it or give another --out.") from e
    try:
        yield
    finally:
        lock.release()


def _strangers(folder: Path) -> bool:
    return any(
        f.name not in (".lock", "build.json", "meta.json.partial", "build.json.partial") for f in folder.iterdir()
    )


def _clear(folder: Path) -> None:
    """Delete what a build wrote into its folder, and nothing else; `meta.json`, which says what it is, goes last."""
    for file in sorted((folder / "shards").glob("emb-*")):
        file.unlink()
    (folder / "build.json").unlink(missing_ok=True)
    (folder / "meta.json").unlink(missing_ok=True)


def _made(descriptor: "Descriptor | Callable[[], Descriptor]") -> "Descriptor":
    return descriptor if hasattr(descriptor, "identity") else descriptor()  # type: ignore[return-value]


def _pictures(parts: Iterable[Part]) -> Iterator[Picture]:
    for part in parts:
        yield from part


def _storable(value: Any) -> Any:
    """A value as a table can hold it: half characters, as in the name of a file, are written as escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
