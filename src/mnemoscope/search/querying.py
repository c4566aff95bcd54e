"""Searching with pictures: a run with each query's nearest pictures, small copies to look at, and what was covered."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Source, Unreadable, open_source
from mnemoscope.pictures.counting import caption_counts
from mnemoscope.run.image_rows import SearchRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import ReadRow
from mnemoscope.run.run import Run
from mnemoscope.run.writing import write_whole
from mnemoscope.search.ann import approximate
from mnemoscope.search.embedding import Embedded, embedded
from mnemoscope.search.query_rows import query_rows
from mnemoscope.search.searching import Found, search_index
from mnemoscope.search.segments import whole
from mnemoscope.search.shards import Index

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor

SHOWN, THUMBNAIL = 100, 192  # queries with pictures, pixels of the longer side
MATCHES = pa.schema(
    [("file", pa.string()), ("rank", pa.int32()), ("match", pa.string()), ("score", pa.float32())]
    + [("caption", pa.string()), ("url", pa.string()), ("shard", pa.string()), ("row", pa.int64())]
)


def run_search(
    folder: str | Path,
    queries: str | Path,
    out: Path | str,
    descriptor: "Descriptor",
    *,
    k: int = 5,
    captions: Path | None = None,
    column: str | None = None,
    limit: int | None = None,
    batch: int = 32,
    runner: Literal["local", "ray"] = "local",
    ann: Literal["faiss", "lance"] | None = None,
    uri: str | None = None,
    probes: int | None = None,
    overwrite: bool = False,
) -> Json:
    """Search an index for the k pictures nearest to each query into a run, and return its summary.

    The search is exact unless `ann` names a kind of table, whose `uri` and `probes` are those of `ann.approximate`: its
    recall is then in the summary. Raises `UsageError` where the descriptor is not the index's own.
    """
    from mnemoscope.features import comparable

    index = Index.open(folder)
    comparable(descriptor.identity, index.identity)
    source = open_source(queries, captions=captions, column=column, limit=limit)
    settings = {"index": str(folder), "queries": str(queries), "top_k": k, "captions": captions, "column": column}
    settings |= {"limit": limit, "ann": ann, "ann_uri": uri, "probes": probes}
    settings |= {"content": [source.content, index.content]}
    features = asdict(descriptor.identity)
    with Run(out, "search", settings, overwrite=overwrite, features=features) as run:
        began = time.perf_counter()
        with Progress(transient=True) as bar:
            done, vectors = _queries(source, descriptor, batch, bar)
            task = bar.add_task("search", total=index.listed)
            if ann is None or not len(vectors):
                nearest = search_index(index, vectors, k, runner=runner, advance=lambda count: bar.advance(task, count))
                recall = {}
            else:
                nearest, measured = approximate(index, vectors, k, kind=ann, uri=uri, probes=probes)
                recall = {"recall": measured.values()}
        rows = query_rows(index, done, nearest)
        notes = _add_pictures(run.folder, index, source, rows)
        run.replace_rows([])
        run.done.clear()
        run.append(rows, seconds=time.perf_counter() - began)
        _write_matches(run.folder / "matches.parquet", rows)
        told = {"query_picture_captions": caption_counts([bool(q.picture.captions) for q in done], source)}
        told = told if told["query_picture_captions"]["with_caption"] or source.unmatched else {}
        return run.finish(**_summary(index, descriptor, done, nearest, rows), **recall, **told, notes=notes)


def _queries(
    source: Source, descriptor: "Descriptor", batch: int, bar: Progress
) -> tuple[list[Embedded], Float[np.ndarray, "Q D"]]:
    """All queries without their bytes, and the vectors of those that have one."""
    task = bar.add_task("queries", total=None)
    done: list[Embedded] = []
    vectors = []
    for each in embedded(source, descriptor, batch):
        if each.vector is not None:
            vectors.append(each.vector)
        done.append(replace(each, picture=replace(each.picture, read=bytes), vector=None))
        bar.advance(task)
    if not done:
        raise UsageError(f"{source.name} holds no picture; give at least one as a query.")
    return done, np.stack(vectors) if vectors else np.empty((0, descriptor.identity.dimension), np.float32)


def _add_pictures(folder: Path, index: Index, source: Source, rows: Sequence[SearchRow]) -> list[str]:
    """Keep small copies of the closest queries and of their matches in the run; say so where there are none."""
    first = [(row["score"], row) for row in rows if row.get("rank") == 1 and row["match"]]
    best = [row for score, row in sorted(first, key=lambda pair: -(pair[0] or 0.0))[:SHOWN]]
    closest = {row["query"] for row in best}
    near = [row for row in rows if row["query"] in closest]
    thumbnails(source, near, "query", folder, "images", "picture")
    try:
        thumbnails(whole(index.meta), near, "row", folder, "references", "match_picture")
    except UsageError as e:
        return [f"The pictures of the index are not shown: {e}"]
    return []


def thumbnails(
    source: Source,
    rows: Sequence[SearchRow],
    place: Literal["query", "row"],
    folder: Path,
    under: str,
    name: Literal["picture", "match_picture"],
) -> None:
    """Write small copies of the pictures at the rows' places in a source, and enter their files in the rows."""
    places = sorted({row[place] for row in rows})
    files: dict[int, str | None] = {}
    for at, picture in zip(places, chain.from_iterable(source.cut(places)), strict=True):
        file = folder / under / f"{at:09d}.jpg"
        try:
            small = picture.image()
        except Unreadable:
            files[at] = None
            continue
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, partial(small.save, format="JPEG", quality=90))
        files[at] = f"{under}/{file.name}"
    for row in rows:
        row[name] = files[row[place]]


def _write_matches(file: Path, rows: Sequence[SearchRow]) -> None:
    matched: list[ReadRow] = [row for row in rows if row.get("match")]
    table = pa.Table.from_pylist([{name: row[name] for name in MATCHES.names} for row in matched], MATCHES)
    write_whole(file, lambda f: pq.write_table(table, f))


def _summary(
    index: Index, descriptor: "Descriptor", queries: Sequence[Embedded], nearest: Found, rows: Sequence[SearchRow]
) -> Json:
    best = [score for row in rows if row.get("rank") == 1 and (score := row["score"]) is not None]
    limit = descriptor.threshold
    return {
        "queries": len(queries),
        "unreadable_queries": sum(query.status != "ok" for query in queries),
        "listed": nearest.listed,
        "searched": nearest.searched,
        "coverage": nearest.coverage,
        "statuses": index.meta.get("statuses", {}),
        "gaps": [asdict(gap) for gap in nearest.gaps],
        "threshold": limit,
        "above_threshold": None if limit is None else sum(score > limit for score in best),
        "best_score_mean": float(np.mean(best)) if best else None,
    }
