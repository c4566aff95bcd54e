"""Pictures in tar files: webdataset shards, img2dataset's with links that it could not download, tars of folders."""

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, count
from pathlib import Path
from posixpath import normpath

from mnemoscope.pictures.beside import SIDECARS, described, problem_of
from mnemoscope.pictures.captions import Said, is_captions
from mnemoscope.pictures.columns import storable
from mnemoscope.pictures.links import problem, read_links
from mnemoscope.pictures.members import Member, members, read_place
from mnemoscope.pictures.names import SUFFIXES, stem, suffix
from mnemoscope.pictures.packed import TarBytes
from mnemoscope.pictures.pairing import paired, without_image
from mnemoscope.pictures.picture import Missing, Picture, Unreadable, missing, unreadable
from mnemoscope.pictures.told import Read, captions_files


@dataclass
class TarSample:
    """A picture: its member, the texts beside it, what files of captions and a list of links say, or why it lacks."""

    key: str
    image: Member | None = None
    texts: tuple[str, ...] = ()
    said: Said = Said()
    lacking: str = "no image in the sample"
    refused: str | None = None


@dataclass(frozen=True)
class Contents:
    """All that is in a tar file; `unmatched` are names in files of captions, and texts, that fit no picture."""

    samples: list[TarSample]
    unmatched: tuple[str, ...]
    empty: int


@dataclass(frozen=True)
class Tar:
    """Pictures of a tar file in its order; those of a list of links beside it in the order of the list.

    `name` is what the source calls the file, and `places` are the pictures that are meant, all if it is None.
    """

    path: Path
    name: str
    column: str | None = None
    places: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.contents.samples) if self.places is None else len(self.places)

    def __iter__(self) -> Iterator[Picture]:
        samples = self.contents.samples
        for place in range(len(samples)) if self.places is None else self.places:
            yield self._picture(samples[place])

    @property
    def unmatched(self) -> tuple[str, ...]:
        return self.contents.unmatched

    @property
    def empty(self) -> int:
        return self.contents.empty

    def cut(self, places: Sequence[int]) -> "Tar":
        part = Tar(self.path, self.name, self.column, places)
        part.__dict__["_bytes"] = self._bytes  # a packed one is unpacked once
        return part

    def listing(self) -> list[str]:
        table = self.path.with_suffix(".parquet")
        return [f"{self.name} {os.stat(self.path).st_size} {os.stat(table).st_size if table.is_file() else 0}"]

    @cached_property
    def _members(self) -> tuple[list[Member], str | None]:
        return members(self._bytes)

    @cached_property
    def _bytes(self) -> TarBytes:
        return TarBytes(self.path)

    @cached_property
    def contents(self) -> Contents:
        """All pictures of the file by its headers; where it is damaged, one that says so comes last."""
        inside, damage = self._members
        images = [m for m in inside if suffix(m.name) in SUFFIXES]
        names = [m.name for m in images]
        others = list(dict.fromkeys(m.name for m in inside if suffix(m.name) not in SUFFIXES))
        told = Read.of(self._read, captions_files(map(normpath, others)), list(map(normpath, names)), self.column)
        texts, left = paired(names, [n for n in others if suffix(n) in SIDECARS and not is_captions(n)])
        alone, unmatched = without_image(names, left)
        samples: dict[str, TarSample] = {}
        for image in images:
            key = _free(image.name, samples)
            samples[key] = TarSample(key, image, texts.get(image.name, ()), told.said.get(normpath(image.name), Said()))
        places = {member.name: place for place, member in reversed(list(enumerate(inside)))}
        lacking = {key: TarSample(key, None, several) for key, several in alone.items()}
        whole = dict(sorted({**samples, **lacking}.items(), key=lambda item: _place(item[1], places)))
        links = read_links(self.path.with_suffix(".parquet"))
        for key, link in links.items():
            sample = whole.setdefault(key, TarSample(key, lacking="not in its tar file"))
            sample.said = sample.said if sample.said.captions else link.said
            sample.lacking = link.problem or sample.lacking
        ordered = [*(whole[k] for k in links), *(s for k, s in whole.items() if k not in links)]
        ordered += [TarSample("", refused=damage)] if damage else []
        return Contents(ordered, (*told.unmatched, *unmatched), told.empty)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "name": self.name, "column": self.column, "places": self.places}

    def _picture(self, sample: TarSample) -> Picture:
        captions = described(self._read, sample.texts, sample.said, self.column)
        key = storable(f"{self.name}:{sample.key}" if sample.key else self.name)
        read = self._reader(sample)
        return Picture(key, read, captions.captions, captions.url, captions.kind, captions.label, captions.seed)

    def _reader(self, sample: TarSample) -> Callable[[], bytes]:
        image = sample.image
        if refused := sample.refused or (image and image.refused):
            return unreadable(refused)
        if image is None or image.place is None:
            lacking = image.lacking if image is not None else problem(problem_of(self._read, sample.texts))
            return missing(lacking or sample.lacking)
        return partial(read_place, self._bytes, *image.place)

    def _read(self, name: str) -> bytes:
        member = self._by_name[name]
        if member.place is None:
            raise Missing(member.lacking) if member.lacking else Unreadable(member.refused or "")
        return read_place(self._bytes, *member.place)

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        return {name: member for member in self._members[0] for name in (member.name, normpath(member.name))}


def _free(name: str, taken: Container[str]) -> str:
    """The key of a picture: its name without the ending, with it if that is taken, and numbered behind that."""
    ways = chain([stem(name), name], (f"{name} ({k})" for k in count(2)))
    return next(key for key in ways if key not in taken)


def _place(sample: TarSample, places: Mapping[str, int]) -> int:
    return places[sample.image.name if sample.image is not None else sample.texts[0]]
