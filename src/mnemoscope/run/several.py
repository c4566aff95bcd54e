"""A run of several methods, narrowed to one of them: RUN:METHOD is the run that this method alone would make."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError, likely
from mnemoscope.run.reading import Json, read_json
from mnemoscope.run.rows import ReadRow

COMMAND = "detections"  # what the record of such a run says that made it


def split(source: Path | str) -> tuple[Path, str | None]:
    """A run's folder, or a file of it, and the method behind its last colon; none where that is a part of the path."""
    whole = Path(source)
    name, colon, method = str(source).rpartition(":")
    if os.path.exists(whole) or not colon or not os.path.exists(name):
        return whole, None
    place = Path(name)
    record = (place if place.is_dir() else place.parent) / "run.json"
    return (place, method) if record.is_file() and is_several(read_json(record)) else (whole, None)


def is_several(record: Mapping[str, Any]) -> bool:
    """Whether the record is that of a run of several methods."""
    return record.get("command") == COMMAND and isinstance(record.get("methods"), dict)


def one(source: Path | str, methods: Mapping[str, Any], method: str | None) -> str:
    """The method, if it is one of the run's; raises `UsageError` where none is named, or another one."""
    if method in methods:
        return str(method)
    listed = f"{source} holds {len(methods)} methods: {', '.join(methods)}"
    if method is None:
        raise UsageError(f"{listed}; write {source}:{next(iter(methods))} for that one.")
    raise UsageError(f"{listed}, and no {method}; name one of them.{likely(method, methods)}")


def record_of(record: Mapping[str, Any], method: str) -> Json:
    """The record of a run of several methods as that of one of them."""
    settings = dict(record.get("settings", {}))
    methods, params = settings.pop("methods", {}), settings.pop("params", {})
    own = {key.partition(".")[2]: value for key, value in params.items() if key.partition(".")[0] == method}
    settings |= {"method": methods.get(method, method), "params": own}
    rest = {key: value for key, value in record.items() if key != "methods"}
    return {**rest, "command": "detect", "method": record["methods"][method], "settings": settings}


def rows_of(rows: Sequence[ReadRow], method: str) -> list[ReadRow]:
    """The rows of a method, each under the id of its prompt."""
    own = [row for row in rows if row.get("method") == method]
    return [{key: value for key, value in {**row, "id": row["prompt_id"]}.items() if key != "prompt_id"} for row in own]


def summary_of(summary: Mapping[str, Any], method: str) -> Json:
    """What a summary says of a method; nothing where the run was not finished."""
    methods = summary.get("methods")
    own = methods.get(method) if isinstance(methods, dict) else None
    return dict(own) if isinstance(own, dict) else {}
