"""Building an index: the source is cut into shards, each is written whole or not at all, finished ones are kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Source, open_source
from mnemoscope.run.asked import asked_of
from mnemoscope.run.environment import environment
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import differing, write_json
from mnemoscope.run.runner import map_shards
from mnemoscope.run.writing import is_partial
from mnemoscope.search.finishing import finish
from mnemoscope.search.metadata import record_of
from mnemoscope.search.segments import reopened, segment_of, segments
from mnemoscope.search.shards import DTYPE, FORMAT, Damaged, Index, Shard
from mnemoscope.search.writing import Job, made_by, write_shard

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor


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
) -> Json:
    """Embed every picture of a source into an index in the folder `out`, and return what its `meta.json` says.

    The same call goes on where an earlier one was interrupted, killed or lost a file, and writes the same bytes.
    `descriptor` may be a function that makes one, which is called by each worker of Ray, with `gpus` of a GPU each.
    Raises `UsageError` for a folder that holds an index of something else (unless `overwrite`) or anything but an
    index, and for a source without pictures.
    """
    if shard_size < 1 or batch < 1:
        raise UsageError(f"The shard size {shard_size} and the batch size {batch} must be at least 1.")
    folder = Path(out)
    with locked(folder):
        if overwrite:
            _clear(folder)
        opened = open_source(source, captions=captions, column=column, limit=limit)
        made = made_by(descriptor)
        meta = _planned(folder, opened, made, captions, column, shard_size)
        if meta.get("shards") is None:
            write_json(folder / "build.json", {**asked_of(folder), **environment()})
            write_json(folder / "meta.json", meta)
        given = made if runner == "local" else descriptor
        build_shards(folder, {0: opened}, given, batch, runner, gpus)
        return finish(folder)


def build_shards(
    folder: Path,
    opened: dict[int, Source],
    descriptor: "Descriptor | Callable[[], Descriptor]",
    batch: int,
    runner: Literal["local", "ray"],
    gpus: int | float,
) -> None:
    """Build the shards that are not whole; sources that are not open yet are opened where one of theirs is not."""
    index = Index.open(folder)
    shards = index.shards
    left = [shard for shard in shards if not is_whole(shard)]
    removed = index.meta.get("removed", [])
    for number in {shard.stretch.segment for shard in left} - set(opened):
        opened[number] = reopened(segments(index.meta)[number])
    jobs = (_job(shard, opened[shard.stretch.segment], removed) for shard in left)
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


def _job(shard: Shard, source: Source, removed: Sequence[int]) -> Job:
    _, place, listed, start = shard.stretch
    without = frozenset(at - start for at in removed if start <= at < start + listed)
    return Job(shard, source.cut(range(place, place + listed)), without)


def is_whole(shard: Shard) -> bool:
    """Whether a shard and its record are there as they were written; else it is built again."""
    try:
        shard.check()
    except Damaged:
        return False
    return record_of(shard.record) is not None


def _planned(
    folder: Path, opened: Source, made: "Descriptor", captions: Path | None, column: str | None, shard_size: int
) -> Json:
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
    segment = segment_of(opened, captions, column, shard_size)
    return {"format": FORMAT, "dtype": DTYPE.name, "identity": asked["identity"], **segment}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
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
    return any(not (f.name in (".lock", "build.json") or is_partial(f.name)) for f in folder.iterdir())


def _clear(folder: Path) -> None:
    """Delete what a build wrote into its folder, and nothing else; `meta.json`, which says what it is, goes last."""
    for file in sorted((folder / "shards").glob("emb-*")):
        file.unlink()
    (folder / "build.json").unlink(missing_ok=True)
    (folder / "meta.json").unlink(missing_ok=True)
