"""An index as a source: the pictures that it was made of, where they are still what they were."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.schema import fits

KINDS = {"source": str, "captions": str | None, "column": str | None, "limit": int | None, "content": str}


@dataclass(frozen=True)
class Origin:
    """A source with its captions, column and limit, and the hash of its names and sizes."""

    source: str
    captions: Path | None
    column: str | None
    limit: int | None
    content: str


@dataclass(frozen=True)
class Origins:
    """What an index was made of, and the places of pictures that were removed from it."""

    sources: tuple[Origin, ...]
    removed: frozenset[int] = frozenset()


def origins(folder: Path) -> Origins | None:
    """What the index in a folder was made of; None for another folder. Raises `UsageError` if it is damaged."""
    if not ((folder / "meta.json").is_file() and (folder / "shards").is_dir()):
        return None
    meta: Json = read_json(folder / "meta.json")
    if not {"identity", "source", "content"} <= set(meta):
        return None
    added, removed = meta.get("added", []), meta.get("removed", [])
    parts = [_origin(part) for part in (meta, *added)] if fits(added, list[dict[str, Any]]) else [None]
    if None in parts or not fits(removed, list[int]):
        raise UsageError(f"{folder / 'meta.json'} does not say what the index was made of; build the index again.")
    return Origins(tuple(part for part in parts if part is not None), frozenset(removed))


def _origin(part: Json) -> Origin | None:
    known: Json = {name: part.get(name) for name in KINDS}
    if not all(fits(known[name], kind) for name, kind in KINDS.items()):
        return None
    known["captions"] = Path(known["captions"]) if known["captions"] else None
    return Origin(**known)
