"""Neurons from where they were written down: a run of localize, a JSON file, or a table of NeMo's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.localization.tables import read_nemo
from mnemoscope.run.reading import Malformed, read_value, reason
from mnemoscope.run.rows import LocalizeRow, ReadRow
from mnemoscope.run.run import read_rows


def read_neurons(source: Mapping[str, Any] | str | Path, layers: Sequence[str]) -> Sequence[ReadRow]:
    """One row a prompt, or a single one without a prompt where one set is for all.

    `source` is a set by itself, indices by layer; a run of localize; a JSON file with either a set or a list of rows;
    or a table of NeMo's, whose lists are of `layers`. Raises `UsageError` for anything else.
    """
    if isinstance(source, Mapping):
        return [_row(source, "The neurons given")]
    file = Path(source)
    if file.is_dir():
        rows = [row for row in read_rows(file, LocalizeRow) if row["status"] == "ok"]
        if not rows or "neurons" not in rows[0]:
            raise UsageError(f"{file} is no run of localize with a located prompt; give such a run, or a JSON file.")
        return rows
    if file.suffix.casefold() == ".csv":
        return read_nemo(file, layers)
    try:
        value = read_value(file)
    except (OSError, Malformed) as e:
        raise UsageError(
            f"{file} is neither a run of localize, nor a readable JSON or CSV file of neurons: {reason(e)}."
        ) from e
    return [_row(each, str(file)) for each in (value if isinstance(value, list) else [value])]


def _row(value: Any, where: str) -> ReadRow:
    """A row of neurons from a row, or from a set by itself."""
    row = dict(value) if isinstance(value, Mapping) and "neurons" in value else {"neurons": value}
    initial = row.get("initial_neurons")
    for neurons in (row["neurons"], {} if initial is None else initial):
        if not isinstance(neurons, Mapping) or not all(_indices(indices) for indices in neurons.values()):
            raise UsageError(f"{where} are no neurons; write lists of indices by the name of their layer.")
    return {"prompt": None, **row, "initial_neurons": row["neurons"] if initial is None else initial}


def _indices(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(i) is int for i in value)
