"""Pictures in tar files: webdataset shards, img2dataset's as they are, with the links that it could not download."""

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from mnemoscope.pictures.captions import Said, said_of
from mnemoscope.pictures.links import read_links
from mnemoscope.pictures.picture import LARGEST, Picture, Unreadable, missing, unreadable
from mnemoscope.pictures.trees import SUFFIXES, suffix

Place = tuple[int, int]  # where a member's data begin, and how long they are


@dataclass
class Sample:
    """Members of one name: the image, texts beside it, and what a list of links says."""

    key: str
    image: Place | None = None
    texts: dict[str, Place] = field(default_factory=dict)
    said: Said = Said()
    lacking: str = ""


@dataclass(frozen=True)
class Tar:
    """Pictures of a tar file in its order; those of a list of links beside it in the order of the list.

    `name` is what the source calls the file, and `places` are the pictures that are meant, all if it is None.
    """

    path: Path
    name: str
    places: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.samples) if self.places is None else len(self.places)

    def __iter__(self) -> Iterator[Picture]:
        for place in range(len(self.samples)) if self.places is None else self.places:
            yield self._picture(self.samples[place])

    def cut(self, places: Sequence[int]) -> "Tar":
        return Tar(self.path, self.name, places)

    def listing(self) -> list[str]:
        table = self.path.with_suffix(".parquet")
        return [f"{self.name} {os.stat(self.path).st_size} {os.stat(table).st_size if table.is_file() else 0}"]

    @cached_property
    def samples(self) -> list[Sample]:
        """All pictures of the file by its headers; where it is damaged, one that says so comes last."""
        links = read_links(self.path.with_suffix(".parquet"))
        found = {
            k: Sample(k, said=link.said, lacking=link.problem or "not in its tar file") for k, link in links.items()
        }
        problem = _scan(self.path, found)
        return [*found.values(), *([Sample("", lacking=problem)] if problem else [])]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "name": self.name, "places": self.places}

    def _picture(self, sample: Sample) -> Picture:
        said, read = sample.said, _reader(self.path, sample)
        if not said.captions and sample.texts:
            said = _described(self.path, sample.texts, said)
        key = f"{self.name}:{sample.key}" if sample.key else self.name
        return Picture(key, read, said.captions, said.url, said.kind, said.label, said.seed)


def _reader(path: Path, sample: Sample) -> Callable[[], bytes]:
    if sample.image is not None:
        return partial(_read, path, *sample.image)
    return missing(sample.lacking) if sample.key else unreadable(sample.lacking)


def _scan(path: Path, found: dict[str, Sample]) -> str | None:
    """Enter the members of a tar by name; what is wrong with the file, if anything is."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile():
                    _enter(member, found)
    except (tarfile.TarError, OSError, EOFError, ValueError) as e:
        return f"the tar file is damaged: {e}"
    return None


def _enter(member: tarfile.TarInfo, found: dict[str, Sample]) -> None:
    folder, slash, base = member.name.rpartition("/")
    if base.startswith("."):
        return
    stem, _, extension = base.partition(".")
    key, place = folder + slash + stem, (member.offset_data, member.size)
    sample = found.setdefault(key, Sample(key, lacking="no image in the sample"))
    if suffix(base) not in SUFFIXES:
        sample.texts[extension.lower()] = place
    elif sample.image is None:
        sample.image = place
    else:
        more = next(name for k in range(2, 10**9) if (name := f"{key}.{extension} ({k})") not in found)
        found[more] = Sample(more, place)


def _described(path: Path, texts: dict[str, Place], said: Said) -> Said:
    """What the sample's JSON and text say; a text that is none says nothing, and its picture has no caption."""
    row: dict[str, object] = {}
    for extension, read in (("json", json.loads), ("txt", lambda text: {"caption": text})):
        if extension in texts:
            try:
                held = read(_read(path, *texts[extension]).decode("utf-8-sig", "replace"))
                row |= {k: v for k, v in held.items() if v is not None} if isinstance(held, dict) else {}
            except (ValueError, RecursionError, OSError, Unreadable):
                continue
    from_row = said_of(row)
    return replace(from_row, url=from_row.url or said.url)


def _read(path: Path, start: int, size: int) -> bytes:
    if size > LARGEST:
        raise Unreadable(f"more than {LARGEST >> 20} MiB")
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise Unreadable("cut off by the end of its tar file")
    return data
