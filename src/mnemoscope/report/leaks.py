"""Copies among generated images: three of them large, all of them in a list that can be searched, sorted, thinned."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mnemoscope.report.groups import is_copy
from mnemoscope.report.pictures import SMALL, picture
from mnemoscope.report.record import Record, Section, by_score
from mnemoscope.report.text import number
from mnemoscope.run.asked import parameters
from mnemoscope.run.parts import MITIGATED
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json

LISTED, LARGE = 200, 3  # copies in a list, pairs on top of a page
ORDERS = [
    ("highest similarity", "score"),
    ("lowest similarity", "-score"),
    ("training picture", "-training"),
    ("seed", "-seed"),
]


def section(records: Iterable[Record], page: Path) -> Section:
    """All copies that measurements found, most similar first, with links as they are seen from the page's folder."""
    found = [(record, row) for record in records for row in record.done if is_copy(record, row)]
    found.sort(key=lambda pair: -pair[1]["score"])
    names = {match: place for place, match in enumerate(sorted({row["match"] for _, row in found}))}
    pictures: dict[str, str] = {}
    rows = [_row(record, row, page, names, pictures) for record, row in found[:LISTED]]
    left = len(found) - len(rows)
    content = {"rows": rows, "total": len(found), "left": left, "orders": ORDERS, "pictures": pictures}
    return Section("leaks.html", content | {"has_flags": len({row["flagged"] for _, row in found}) > 1})


def exhibits(records: Iterable[Record], page: Path) -> Section | None:
    """Three pairs of picture and training picture, copies first, each of another training picture where there are.

    Without a measurement the images of a generation beside their nearest references, or alone; None without images.
    """
    found = _candidates(list(records))
    rows = [_pair(record, row, page) for record, row in _varied(found)]
    if not rows:
        return None
    copied = sum(is_copy(record, row) for record, row in found if record.command == "measure")
    known = {"copied": copied, "shown": sum(row["is_copy"] for row in rows)}
    return Section("exhibits.html", {"rows": rows, "is_measured": found[0][0].command == "measure", **known})


def original(record: Record, row: Json) -> Path | None:
    """The image that a row of a generation or measurement is of, where it still is; never one outside its source."""
    places = [(folder, row["file"]) for folder in _sources(record)] + [(record.path, row.get("picture") or "")]
    return next((folder / name for folder, name in places if name and _is_inside(folder / name, folder)), None)


def link(file: Path | None, page: Path) -> str | None:
    """A file's address as seen from the folder of a page, which no browser takes for anything but a file."""
    if file is None:
        return None
    return "./" + quote(Path(os.path.relpath(file.resolve(), page.resolve())).as_posix().encode("utf-8", "replace"))


def _sources(record: Record) -> list[Path]:
    """Folders that hold the images of a run by their names: its own, that of the same audit, or what it was given."""
    if record.command == "generate":
        return [record.path]
    audit, source = record.path.parent, parameters(record.info).get("generated")
    if (audit / "run.json").is_file() and read_json(audit / "run.json").get("command") == "audit":
        return [audit / ("mitigate" if record.path.name == MITIGATED else "generate")]
    return [Path(source), Path(source) / "generate"] if isinstance(source, str) else []


def _is_inside(file: Path, folder: Path) -> bool:
    try:
        return file.resolve().is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):
        return False


def _candidates(records: list[Record]) -> list[tuple[Record, Json]]:
    """The images to choose pairs from, those most like a training picture first."""
    measured = [(r, row) for r in records if r.command == "measure" for row in r.done if row["score"] is not None]
    if measured:
        return sorted(measured, key=lambda pair: (not is_copy(*pair), -pair[1]["score"]))
    drawn = [(r, row) for r in records if r.command == "generate" and r.title == "generate" for row in r.done]
    alike = [pair for pair in drawn if pair[1]["similarity"] is not None]
    if alike:
        return sorted(alike, key=lambda pair: -pair[1]["similarity"])
    order = {id(row): place for r in records if r.command == "generate" for place, row in enumerate(by_score(r.done))}
    return sorted(drawn, key=lambda pair: order[id(pair[1])])


def _varied(found: list[tuple[Record, Json]]) -> list[tuple[Record, Json]]:
    """The first pairs that differ in training picture and prompt, then whichever come first."""
    chosen: list[tuple[Record, Json]] = []
    for record, row in found:
        others = [row["match"] for _, row in chosen if row["match"]]
        if row["match"] not in others and row["prompt_id"] not in [row["prompt_id"] for _, row in chosen]:
            chosen.append((record, row))
        if len(chosen) == LARGE:
            break
    rest = [pair for pair in found if not any(pair[1] is row for _, row in chosen)]
    return (chosen + rest)[:LARGE]


def _pair(record: Record, row: Json, page: Path) -> Json:
    file, similarity = original(record, row), row["score"] if record.command == "measure" else row["similarity"]
    training = _reference(record, row)
    return {
        "prompt": row["prompt"],
        "seed": row["seed"],
        "picture": None if file is None else picture(file.parent, file.name),
        "training": None if training is None else picture(record.path, training),
        "has_training": bool(row["match"]),
        "similarity": similarity,
        "is_copy": record.command == "measure" and is_copy(record, row),
        "href": link(file, page),
        "match": row["match_caption"] if record.command == "generate" else row["match"],
    }


def _reference(record: Record, row: Json) -> str | None:
    """The copy of the nearest training picture that a run keeps, as a name in its folder."""
    if record.command == "generate":
        return row["match"] or None
    return next((str(each["picture"]) for each in row["neighbours"][:1] if each.get("picture")), None)


def _row(record: Record, row: Json, page: Path, names: dict[str, int], pictures: dict[str, str]) -> Json:
    file, training = original(record, row), _reference(record, row)
    shown = f"leak-{names[row['match']]}"
    if training and shown not in pictures and (uri := picture(record.path, training, SMALL)):
        pictures[shown] = uri
    orders = {"score": row["score"], "training": names[row["match"]], "seed": number(row["seed"])}
    copy = record.path / training if training else None
    return row | {
        "picture": None if file is None else picture(file.parent, file.name, SMALL),
        "href": link(file, page),
        "training": shown if shown in pictures else None,
        "training_href": link(copy if copy is not None and _is_inside(copy, record.path) else None, page),
        "orders": {key: value for key, value in orders.items() if value is not None},
    }
