"""A row for each query of a search and each picture that was found for it."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

from mnemoscope.run.image_rows import SearchRow
from mnemoscope.run.reading import Json
from mnemoscope.search.embedding import Embedded
from mnemoscope.search.searching import Found, rows_at
from mnemoscope.search.shards import Index


def query_rows(index: Index, queries: Sequence[Embedded], nearest: Found) -> list[SearchRow]:
    """A row for each query and rank; one that failed for a query that could not be read."""
    table = rows_at(index, nearest.places)
    results = iter(zip(nearest.scores.tolist(), nearest.places.tolist(), strict=True))
    rows: list[SearchRow] = []
    for place, query in enumerate(queries):
        picture = query.picture
        row: _Query = {
            "file": picture.key,
            "query": place,
            "prompt_id": picture.key,
            "prompt": picture.caption or "",
            "kind": picture.kind,
            "label": picture.label,
            "seed": picture.seed,
        }
        if query.status != "ok":
            failed = {"id": picture.key, **row, "status": "failed", "error": query.reason}
            rows.append(cast(SearchRow, failed))
            continue
        for rank, (score, at) in enumerate(zip(*next(results), strict=True), 1):
            if at >= 0 or rank == 1:
                rows.append({"id": f"{picture.key}#{rank}", **row, "rank": rank, **_match(table.get(at), score)})
    return rows


class _Query(TypedDict):
    """What all rows of a query say of it."""

    file: str
    query: int
    prompt_id: str
    prompt: str
    kind: str | None
    label: bool | None
    seed: int | None


class _Matched(TypedDict):
    """What was found for a query at one rank, in the index's own words where it was found."""

    match: str | None
    score: float | None
    caption: NotRequired[str | None]
    url: NotRequired[str | None]
    shard: NotRequired[str]
    row: NotRequired[int]
    status: str


def _match(match: Json | None, score: float) -> _Matched:
    if match is None:
        return {"match": None, "score": None, "status": "ok"}
    return {
        "match": match["key"],
        "score": score,
        "caption": match["caption"],
        "url": match["url"],
        "shard": match["shard"],
        "row": match["position"],
        "status": "ok",
    }
