"""Pictures of the training data, each looked at once: what is said of it, its hash, and whether it can be used."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypedDict

import numpy as np
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import cores, side_by_side
from mnemoscope.pictures import Picture, Source, Unreadable, decoded, open_source
from mnemoscope.pictures.decoding import decoded_in_thread
from mnemoscope.pictures.source import PicturePart
from mnemoscope.pictures.tars import Tar
from mnemoscope.pictures.trees import Files, Folder
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.spool import Spool

IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
SUBSET = 3  # part of the key of a random subset

Placed = tuple[Picture, str | None, bool]  # with its class, and whether its bytes can be read at any time


ManifestEntry = TypedDict(
    "ManifestEntry",
    {
        "file": str,
        "caption": str | None,
        "captions": list[str],
        "class": str | None,
        "group": str,
        "sha256": str | None,
        "status": str,
    },
)


class ManifestRow(ManifestEntry):
    """What a manifest says of a picture that is trained on: its weight, its copies, the first of the same bytes."""

    weight: float
    copies: int
    dup_group: int


@dataclass(frozen=True)
class DataRow:
    """A picture of the training data; `status` is "ok", or why it is left out."""

    file: str
    captions: tuple[str, ...]
    kind: str | None
    group: str
    read: Callable[[], bytes]
    sha256: str | None = None
    size: tuple[int, int] | None = None
    status: str = "ok"

    def because(self, reason: str) -> "DataRow":
        """The row with the reason why it is left out."""
        return replace(self, status=reason)

    def entry(self) -> ManifestEntry:
        """What a manifest says of it."""
        caption = self.captions[0] if self.captions else None
        return {
            "file": self.file,
            "caption": caption,
            "captions": list(self.captions),
            "class": self.kind,
            "group": self.group,
            "sha256": self.sha256,
            "status": self.status,
        }


def memorized_source(options: DataOptions) -> Source:
    """The set that may be memorized, with the captions that the options name."""
    captions = None if options.captions is None else Path(options.captions)
    return open_source(options.data, captions=captions, column=options.column)


def memorized_rows(options: DataOptions, spool: Spool, source: Source) -> Iterator[DataRow]:
    """Rows of the set that may be memorized, those of the subset."""
    return _rows(_subset(options, source), _own_captions(options), "memorized", spool)


def base_rows(options: DataOptions, spool: Spool) -> Iterator[DataRow]:
    """Rows of the set that is mixed with it, looked at only as far as they are asked for."""
    assert options.base is not None
    return _rows(_pictures(open_source(options.base, column=options.column)), {}, "base", spool)


def image_of(row: DataRow) -> Image.Image:
    """The picture in RGB; raises `UsageError` if its file has changed since it was looked at."""
    try:
        return decoded(row.read())
    except (Unreadable, OSError) as e:
        raise UsageError(f"{row.file} was readable when the training began and is not now ({e}); restore it.") from e


def _pictures(source: Source) -> Iterator[Placed]:
    for part in source.parts:
        is_open = isinstance(part, Tar) or (isinstance(part, Files) and isinstance(part.tree, Folder))
        for picture in part:
            yield picture, _class(part, picture), is_open


def _class(part: PicturePart, picture: Picture) -> str | None:
    """The class that a picture's column says, or the name of its folder."""
    if picture.kind or not isinstance(part, Files | Tar):
        return picture.kind
    prefix = part.name + ":" if isinstance(part, Tar) else part.tree.prefix
    folder = PurePosixPath(picture.key.removeprefix(prefix)).parent.name
    return IMAGENETTE.get(folder, folder.replace("_", " ").strip()) or None


def _own_captions(options: DataOptions) -> dict[str, tuple[str, ...]]:
    """Captions that the source has without the file of captions, where they come first."""
    if options.captions is None or options.conditioning != "original":
        return {}
    return {picture.key: picture.captions for picture in open_source(options.data, column=options.column)}


def _subset(options: DataOptions, source: Source) -> Iterator[Placed]:
    """The pictures that are meant; those behind the last one are not looked at."""
    if options.subset is None:
        return _pictures(source)
    whole = len(source)
    count = int(options.subset if options.subset >= 1 else options.subset * whole + 1e-9)
    if not 1 <= count <= whole:
        what = f"--subset {options.subset:g} of {whole} pictures is {count or 'none'}"
        raise UsageError(f"{what}; give a number from 1 to {whole}, or a share of them.")
    if options.subset_by == "first":
        return islice(_pictures(source), count)
    places = _stratified([kind for _, kind, _ in _pictures(source)], count, options.seed)
    return (each for place, each in enumerate(_pictures(source)) if place in places)


def _stratified(classes: list[str | None], count: int, seed: int) -> set[int]:
    """Random places, of each class in proportion to its size up to rounding."""
    rng = np.random.default_rng([seed, SUBSET])
    order = rng.permutation(len(classes)).tolist()
    sizes = {each: classes.count(each) for each in dict.fromkeys(classes)}
    ranks: dict[str | None, int] = dict.fromkeys(sizes, 0)
    share = {}
    for place in order:  # the k-th of n of its class comes when (k + 1/2) / n of the draw is done
        share[place] = (ranks[classes[place]] + 0.5) / sizes[classes[place]]
        ranks[classes[place]] += 1
    return set(sorted(order, key=lambda place: share[place])[:count])


def _rows(pictures: Iterator[Placed], texts: dict[str, tuple[str, ...]], group: str, spool: Spool) -> Iterator[DataRow]:
    while several := list(islice(pictures, cores())):
        with warnings.catch_warnings(action="ignore"):
            looked = side_by_side(_look, [picture for picture, _, _ in several])
        for (picture, kind, is_open), (data, size, status) in zip(several, looked, strict=True):
            first = texts.get(picture.key, ())
            captions = (*first, *(text for text in picture.captions if text not in first))
            read = picture.read if is_open or status != "ok" else spool.put(data)
            sha256 = hashlib.sha256(data).hexdigest() if data else None
            yield DataRow(picture.key, captions, kind, group, read, sha256, size, status)


def _look(picture: Picture) -> tuple[bytes, tuple[int, int] | None, str]:
    """A picture's bytes, its size, and "ok" or why it cannot be used."""
    data = b""
    try:
        data = picture.data()
        return data, decoded_in_thread(data).size, "ok"
    except Unreadable as e:
        return data, None, f"{e.status}: {e.reason}"
