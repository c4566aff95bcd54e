"""Rows of pictures and captions from the JSON that data sets ship: COCO's, Karpathy's splits, paths with captions."""

from collections.abc import Mapping, Sequence

from mnemoscope.pictures.columns import CAPTION_COLUMNS, find, short
from mnemoscope.pictures.names import SUFFIXES, suffix
from mnemoscope.run.reading import Json

FILE_COLUMNS = (
    "file file_name filename file_path filepath image image_name image_path image_file img img_path path".split()
)
KNOWN = "a list of objects, {path: [captions]}, or COCO's images and annotations"
Columns = Json  # of a row, by name


def rows_of(document: object) -> list[Columns] | None:
    """Rows with `file` and `caption` of a JSON document of a known shape; None for any other."""
    if isinstance(document, list):
        return document if document and all(isinstance(row, dict) for row in document) else None
    if not isinstance(document, dict) or not document:
        return None
    images, annotations = document.get("images"), document.get("annotations")
    if _objects(images) and (_objects(annotations) or annotations is None):
        return _coco(images, annotations) if annotations is not None else _split(images)  # type: ignore[arg-type]
    if _objects(annotations) and find(annotations[0], FILE_COLUMNS):  # type: ignore[index]
        return list(annotations)  # type: ignore[arg-type]
    if all(suffix(name) in SUFFIXES for name in document):
        return [_of_path(name, value) for name, value in document.items()]
    return None


def seen(document: object) -> str:
    """What a JSON document looks like, in a few words."""
    if isinstance(document, Mapping):
        return f"an object with the keys {short(', '.join(map(repr, list(document)[:5])))}"
    if isinstance(document, list):
        return f"a list of {len(document)} {type(document[0]).__name__ if document else 'thing'} items"
    return f"a {type(document).__name__}"


def _objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _coco(images: Sequence[Columns], annotations: Sequence[Columns]) -> list[Columns] | None:
    files = {_key(row.get("id")): row.get(find(row, FILE_COLUMNS)) for row in images}
    if not any("caption" in row for row in annotations):
        return None  # boxes or key points, which say nothing in words
    return [{"file": files.get(_key(row.get("image_id"))), "caption": row.get("caption")} for row in annotations]


def _split(images: Sequence[Columns]) -> list[Columns] | None:
    """Karpathy's splits: `filepath` is a folder there, and sentences hold their text as `raw`."""
    rows: list[Columns] = []
    for row in images:
        name = row.get("filename") or row.get(find(row, FILE_COLUMNS))
        sentences = row.get("sentences", row.get(find(row, CAPTION_COLUMNS)))
        told = sentences if isinstance(sentences, list) else [sentences]
        captions = [each.get("raw") if isinstance(each, dict) else each for each in told]
        within = row.get("filepath") if row.get("filename") else None
        rows.append({"file": f"{within}/{name}" if isinstance(within, str) and name else name, "caption": captions})
    return rows if any(isinstance(text, str) for row in rows for text in row["caption"] or ()) else None


def _of_path(name: str, value: object) -> Columns:
    """A row of a picture's name with its columns, which DiffusionDB calls by letters, or with its captions."""
    if not isinstance(value, dict):
        return {"file": name, "caption": value}
    is_lettered = {"p", "se", "sa"} <= set(value) and not find(value, CAPTION_COLUMNS)
    return {**value, **({"caption": value["p"], "seed": value["se"]} if is_lettered else {}), "file": name}


def _key(value: object) -> str:
    """An id as it is compared: a number and its digits are one."""
    return value if isinstance(value, str) else repr(value)
