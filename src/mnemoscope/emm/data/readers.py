"""Images of one size from anywhere: digits, folders and zips with dataset.json, arrays, CIFAR archives, tables."""

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from mnemoscope.emm.data import arrays, labels
from mnemoscope.emm.data.images import Images, fitted, resized
from mnemoscope.errors import UsageError
from mnemoscope.pictures import Unreadable, open_source
from mnemoscope.pictures.parquet import read_whole, schema_of
from mnemoscope.pictures.source import PicturePart
from mnemoscope.pictures.tables import Dataset, Parquet
from mnemoscope.pictures.trees import Files
from mnemoscope.run.run import read_json

OF_RUNS = ("images", "data.zip")  # of emm optimum, of emm train
ARRAYS = {".npz": arrays.read_npz, ".npy": arrays.read_npy}


def read_images(source: str | Path, *, resolution: int | None = None, limit: int | None = None) -> Images:
    """The first `limit` images of a source with its labels, all of one size.

    `source` is `digits` (those of scikit-learn, 8 x 8 and grey), a folder or zip of images (labels from `dataset.json`,
    or else folders on top as classes in the order of their names), `.npz` with `images` and `labels`, `.npy`
    (memory-mapped), the CIFAR-10 or CIFAR-100 archive for Python (`:test` behind it for its test images), the
    `-ubyte` files of MNIST and Fashion-MNIST, `.parquet` or `hub:owner/name` with a column of labels, a run of
    `emm optimum` (what it drew) or `emm train` (what it trains on), or another source that `read_pictures` takes.
    Images of which all pixels are grey have one channel. With `resolution` each image is cut to the square in the
    middle and resized by Lanczos. Raises `UsageError` for images of several sizes without it, for one that cannot be
    read, and for labels that are not whole numbers.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit} and must be at least 1; leave it out to read all images.")
    images = _arrays(str(source), limit)
    if images is None:
        return _pictures(source, resolution, limit)
    return images if resolution is None else resized(images, resolution)


def _arrays(name: str, limit: int | None) -> Images | None:
    """Images of a source that holds arrays; None if it does not."""
    path, _, part = name.partition(":")
    if name == "digits":
        images = arrays.read_digits()
    elif Path(name).suffix in ARRAYS:
        images = ARRAYS[Path(name).suffix](_there(name))
    elif re.search(r"cifar[^/]*\.(tar\.gz|tgz|tar)$", path):
        images = arrays.read_cifar(_there(path), part or "train")
    elif re.search(r"-ubyte(\.gz)?$", name):
        images = arrays.read_idx(_there(name))
    else:
        return None
    return images if limit is None or limit >= len(images) else images.take(slice(limit))


def _there(name: str) -> Path:
    if not Path(name).is_file():
        raise UsageError(f"There is no file {name}; give one that is there.")
    return Path(name)


def _pictures(source: str | Path, resolution: int | None, limit: int | None) -> Images:
    opened = open_source(_images_of(source), limit=limit)
    pictures, names = [], []
    for each in opened:
        try:
            image = each.image()
        except Unreadable as e:
            raise UsageError(f"The image {each.key} of {source} cannot be read: {e}; mend or remove it.") from e
        pictures.append(np.asarray(image if resolution is None else fitted(image, resolution)))
        names.append(each.key)
    if len(sizes := {p.shape for p in pictures}) > 1:
        (a, b), (c, d) = sorted(s[:2] for s in sizes)[:2]
        raise UsageError(f"{source} has images of {b}x{a} and {d}x{c} pixels; give a resolution for all.")
    read_labels = _labels(opened.parts, names, source)
    pixels = _planes(np.stack(pictures))
    return (
        Images(pixels, None, tuple(names))
        if read_labels is None
        else Images(pixels, read_labels[0], tuple(names), read_labels[1])
    )


def _images_of(source: str | Path) -> str | Path:
    """Where a run that is none of `generate` has its images: those it drew, or trained on; or else the source."""
    run = Path(source) / "run.json"
    if run.is_file() and str(read_json(run).get("command", "")).startswith("emm-"):
        places = [Path(source) / name for name in OF_RUNS if (Path(source) / name).exists()]
        if not places:
            raise UsageError(f"{source} is a run without images; give a run of emm optimum or emm train.")
        return places[0]
    return source


def _planes(pictures: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "N C H W"]:
    """Channels first; one channel if none of the images has a colour."""
    is_grey = all((p[..., :1] == p).all() for p in pictures)
    return np.ascontiguousarray((pictures[..., :1] if is_grey else pictures).transpose(0, 3, 1, 2))


def _labels(parts: Sequence[PicturePart], names: list[str], source: str | Path) -> labels.Labels | None:
    """Labels of all images by the first `len(names)` pictures of the parts; None where a part has none."""
    if len(parts) == 1 and isinstance(parts[0], Files):
        return _labels_of_files(parts[0], names, source)
    given = [_column(part) for part in parts if len(part)]
    columns = [column for column in given if column is not None]
    if not columns or len(columns) < len(given):
        return None
    return labels.of_values(np.concatenate(columns)[: len(names)], str(source))


def _labels_of_files(part: Files, names: list[str], source: str | Path) -> labels.Labels | None:
    inner_names = [name.removeprefix(part.tree.prefix) for name in names]
    if "dataset.json" in part.tree.sizes():
        try:
            table = json.loads(part.tree.reader()("dataset.json"))
        except (ValueError, OSError, Unreadable) as e:
            raise UsageError(f"dataset.json of {source} cannot be read: {e}") from e
        return labels.of_table(table, inner_names, str(source))
    return labels.of_folders([PurePosixPath(name).parts for name in inner_names])


def _column(part: PicturePart) -> np.ndarray | None:
    """The column of labels of a table; None if there is none."""
    try:
        if isinstance(part, Parquet):
            name = labels.column(schema_of(part.path))
            values: Any = read_whole(part.path, [name]).column(0) if name else None
        elif isinstance(part, Dataset):
            name = labels.column(part.rows.features.arrow_schema)
            values = part.rows.with_format("arrow")[name] if name else None
        else:
            return None
    except (pa.ArrowException, OSError) as e:
        raise UsageError(f"The labels of {part.listing()[0]} cannot be read: {e}") from e
    return None if values is None else np.asarray(values.to_pylist())
