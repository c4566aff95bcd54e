"""Building an index: the source is cut into shards, each is written whole or not at all, finished ones are kept."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Source, open_source
from mnemoscope.pictures.counting import CaptionCounts, caption_counts
from mnemoscope.run.asked import asked_of
from mnemoscope.run.environment import environment
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import differing, read_json, write_json
from mnemoscope.run.writing import clean, is_partial
from mnemoscope.search.metadata import record_of
from mnemoscope.search.ray_runner import map_shards
from mnemoscope.search.shards import DTYPE, FORMAT, Damaged, Index, Shard
from mnemoscope.search.writing import Job, made_by, write_shard

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor

REASONS = 20  # of those why pictures have no vector, the most frequent ones are told


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
    with _locked(folder):
        if overwrite:
            _clear(folder)
        opened = open_source(source, captions=captions, column=column, limit=limit)
        made = made_by(descriptor)
        meta = _planned(folder, opened, made, captions, column, shard_size)
        if meta.get("shards") is None:
            write_json(folder / "build.json", {**asked_of(folder), **environment()})
            write_json(folder / "meta.json", meta)
        given = made if runner == "local" else descriptor
        _build(folder, opened, given, batch, runner, gpus)
        return _finish(folder, opened)


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
    if not len(opened):
        raise UsageError(f"{opened.name} holds no picture; give a source with at least one.")
    name = opened.name if opened.name.startswith("hub:") else str(Path(opened.name).absolute())
    where = {"source": name, "captions": captions and str(captions.absolute())}
    return {"format": FORMAT, "dtype": DTYPE.name, **where, "listed": len(opened), "counts": opened.counts} | asked


def _finish(folder: Path, opened: Source) -> Json:
    """Enter the finished shards in `meta.json`, and how many pictures have a caption, where all shards say so."""
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
        "picture_captions": _captions(records, opened),
        "shards": [{key: record[key] for key in kept} for record in records],
    }
    write_json(folder / "meta.json", meta)
    clean(folder)
    return meta


def _captions(records: Sequence[Json], opened: Source) -> CaptionCounts | None:
    if not all("captioned" in record for record in records):
        return None  # built by an earlier version
    has = sum(record["captioned"] for record in records)
    lacks = sum(record["listed"] for record in records) - has
    return caption_counts([True] * has + [False] * lacks, opened)


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
    return any(not (f.name in (".lock", "build.json") or is_partial(f.name)) for f in folder.iterdir())


def _clear(folder: Path) -> None:
    """Delete what a build wrote into its folder, and nothing else; `meta.json`, which says what it is, goes last."""
    for file in sorted((folder / "shards").glob("emb-*")):
        file.unlink()
    (folder / "build.json").unlink(missing_ok=True)
    (folder / "meta.json").unlink(missing_ok=True)
