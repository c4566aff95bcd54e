"""An index as a source: the pictures that it was made of, where they are still what they were."""

from dataclasses import dataclass
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json


@dataclass(frozen=True)
class Origin:
    """What an index was made of: a source with its captions, column and limit, and the hash of its names and sizes."""

    source: str
    captions: Path | None
    column: str | None
    limit: int | None
    content: str


def origin(folder: Path) -> Origin | None:
    """What the index in a folder was made of; None for another folder. Raises `UsageError` if it is damaged."""
    if not ((folder / "meta.json").is_file() and (folder / "shards").is_dir()):
        return None
    meta: Json = read_json(folder / "meta.json")
    if not {"identity", "source", "content"} <= set(meta):
        return None
    captions, column, limit = (meta.get(key) for key in ("captions", "column", "limit"))
    is_whole = isinstance(meta["source"], str) and all(isinstance(each, str | None) for each in (captions, column))
    if not is_whole or not isinstance(limit, int | None) or not isinstance(meta["content"], str):
        raise UsageError(f"{folder / 'meta.json'} does not say what the index was made of; build the index again.")
    return Origin(meta["source"], Path(captions) if captions else None, column, limit, meta["content"])
