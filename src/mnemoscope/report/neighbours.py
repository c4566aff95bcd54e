"""Images beside the references that are nearest to them, to be searched, sorted and thinned on the page."""

from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Record, Section, by_score
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

SHOWN = 10  # references beside an image
KNOWN = {"score", "own_score", "threshold", "similarity", "own_similarity", "seed", "flagged", "label"}
LEAD = (
    "Each image with the references nearest to it; the bold number is the similarity. Framed in blue: a reference "
    "whose caption is the image's prompt."
)


def section(record: Record, title: str = "Images beside their nearest references") -> Section:
    """The images kept in the run, those most similar to a reference first."""
    kept = by_score(row for row in record.done if row["picture"])
    extra = _numeric(kept)
    limit = number(record.summary.get("threshold"))
    pictures: dict[str, str] = {}
    rows = [_row(record, row, limit, extra, pictures) for row in kept]
    orders = [("highest similarity", "score"), ("lowest similarity", "-score"), ("highest similarity to own", "own")]
    for name in extra:
        orders += [(f"highest {_words(name)}", _slug(name)), (f"lowest {_words(name)}", "-" + _slug(name))]
    notes = []
    if len(kept) < len(record.done):
        images = counted(len(record.done), "image")
        notes.append(f"The gallery shows the {len(kept)} of {images} that are most like a reference.")
    content = {"title": title, "lead": LEAD, "rows": rows, "orders": orders, "has_flags": limit is not None}
    content["pictures"] = {_class(name): uri for name, uri in pictures.items()}
    return Section("neighbours.html", content, notes)


def _row(record: Record, row: Json, limit: float | None, extra: list[str], pictures: dict[str, str]) -> Json:
    near = [_neighbour(record, each, pictures) for each in row["neighbours"][:SHOWN]]
    orders = {"score": row["score"], "own": row["own_score"], **{_slug(name): number(row.get(name)) for name in extra}}
    said = [("to own", shown(row["own_score"], "{:.2f}"))] if row["own_score"] is not None else []
    about_it = [name for name in extra if number(row.get(name)) is not None and not name.startswith("match_")]
    said += [(_words(name), shown(row[name], "{:.3g}")) for name in about_it]
    return row | {
        "picture": picture(record.path, row["picture"]),
        "neighbours": near,
        "is_copy": limit is not None and row["score"] is not None and row["score"] > limit,
        "orders": {key: value for key, value in orders.items() if value is not None},
        "said": said[:6],
    }


def _neighbour(record: Record, near: Json, pictures: dict[str, str]) -> Json:
    """A reference, whose picture goes into the page once, however many images it is near to."""
    name = str(near.get("picture") or "")
    if name and name not in pictures and (uri := picture(record.path, name)):
        pictures[name] = uri
    known = {key: str(near.get(key) or "") for key in ("match", "caption")}
    return {**known, "score": number(near.get("score")), "is_own": near.get("is_own") is True} | {
        "picture": _class(name) if name in pictures else None
    }


def _class(name: str) -> str:
    return "p" + "".join(c for c in name if c.isalnum())


def _numeric(rows: list[Json]) -> list[str]:
    """Names of the columns that hold numbers, beside those that every row has."""
    found: Json = {}
    for row in rows:
        found |= {k: v for k, v in row.items() if k not in KNOWN and number(v) is not None and not isinstance(v, bool)}
    return list(found)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _slug(name: str) -> str:
    return name.replace("_", "")
