"""Labels of images as a source gives them: a table by names, folders, a column, one-hot rows."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from mnemoscope.errors import UsageError

Labels = tuple[Int[np.ndarray, " N"], int]  # and the number of classes
MOST = 2**24  # classes
COLUMNS = ("label", "labels", "class", "class_id", "fine_label", "target")
EDM_FOLDER, EDM_FILE = re.compile(r"\d{5}"), re.compile(r"img\d{8}\.\w+")


def of_table(table: Any, names: Sequence[str], source: str) -> Labels | None:
    """Labels from `dataset.json`: pairs of a name and a number (or a one-hot row); None if it says that there are none.

    `num_classes` beside them, which this package writes, is for classes without images at the end. Raises `UsageError`
    for an image without a label and for labels that are neither.
    """
    pairs = table.get("labels") if isinstance(table, dict) else None
    if not pairs:
        return None
    try:
        known = {str(name).replace("\\", "/"): label for name, label in pairs}
        least = int(table.get("num_classes") or 0)
    except (TypeError, ValueError) as e:
        raise UsageError(
            f"dataset.json of {source} has no pairs of name and label, or num_classes is no number; write "
            '{"labels": [[name, 3], ...]}.'
        ) from e
    lacking = [name for name in names if name not in known]
    if lacking:
        raise UsageError(f"dataset.json of {source} has no label of {lacking[0]}; give one for each image.")
    try:
        values = np.array([known[name] for name in names])
    except ValueError:
        values = np.array([None])  # numbers among rows, which are no classes together
    whole = [label + 1 for label in known.values() if isinstance(label, int)]
    return of_values(values, source, max(least, *whole, 0))


def of_folders(paths: Sequence[tuple[str, ...]]) -> Labels | None:
    """Folders on top as classes, in the order of their names; None unless all images are in one.

    The numbered folders of the zips of EDM (`00000/img00000000.png`) are no classes.
    """
    if not paths or any(len(path) < 2 for path in paths):
        return None
    if all(EDM_FOLDER.fullmatch(path[0]) and EDM_FILE.fullmatch(path[-1]) for path in paths):
        return None
    places = {name: place for place, name in enumerate(sorted({path[0] for path in paths}))}
    return np.array([places[path[0]] for path in paths], np.int64), len(places)


def of_values(values: np.ndarray, source: str, num_classes: int = 0) -> Labels:
    """Whole numbers, one-hot rows, or texts, which become classes in the order of the alphabet.

    Raises `UsageError` for anything else.
    """
    if values.ndim == 2 and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        return values.argmax(axis=1).astype(np.int64), values.shape[1]
    if values.ndim == 1 and values.dtype.kind in "US":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), len(names)
    if values.ndim == 1 and values.dtype.kind in "iub" and (not len(values) or values.min() >= 0):
        top = max(int(values.max()) + 1 if len(values) else 0, num_classes)
        if top > MOST:
            raise UsageError(f"{source} has labels up to {top - 1}; number its classes from 0, up to {MOST - 1}.")
        return values.astype(np.int64), top
    raise UsageError(f"The labels of {source} are no classes; give each image a number from 0, or a one-hot row.")


def column(schema: pa.Schema) -> str | None:
    """The column of a table that holds labels."""
    named = {name.lower(): name for name in schema.names}
    return next((named[name] for name in COLUMNS if name in named), None)
