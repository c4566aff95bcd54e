"""Tables that img2dataset writes beside what it downloads: each link with its caption and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.errors import UsageError
from mnemoscope.pictures.captions import Said, said_of
from mnemoscope.pictures.columns import CAPTION_COLUMNS, short
from mnemoscope.pictures.parquet import read_whole

COLUMNS = ("key", "url", "status", "error_message", *CAPTION_COLUMNS)


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the list that was downloaded from; `problem` says why it gave no image."""

    said: Said
    problem: str | None = None


def read_links(file: Path) -> dict[str, Link]:
    """Links by their key, in the order of the table; none where there is no such table, or one of something else.

    Raises `UsageError` for a table that cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        held = set(pq.read_schema(file).names)
        if not {"key", "url", "status"} <= held:
            return {}
        rows = read_whole(file, [c for c in COLUMNS if c in held]).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as e:
        raise UsageError(f"{file} cannot be read ({short(e)}); delete it or download its shard again.") from e
    return {str(row["key"]): Link(said_of(row), problem(row)) for row in rows}


def problem(row: Mapping[str, object]) -> str | None:
    """Why a row of such a table has no image, if img2dataset says that it has none."""
    if row.get("status") in ("success", None):
        return None
    reason = short(row.get("error_message") or "no reason given")
    return f"not downloaded: {reason}" if row["status"] == "failed_to_download" else f"not kept: {reason}"
