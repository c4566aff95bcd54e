"""A source of pictures: its parts in order, stretches of them, and what its captions files say of none."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Protocol, runtime_checkable

from mnemoscope.pictures.picture import Picture, unreadable


@runtime_checkable
class PicturePart(Protocol):
    """Pictures of a source in order, which can be counted, cut and sent elsewhere without reading any."""

    def listing(self) -> list[str]:
        """What it is recognised by: names and sizes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Picture]: ...

    def cut(self, places: Sequence[int]) -> "PicturePart":
        """The pictures at these places, in rising order."""


@dataclass(frozen=True)
class Broken:
    """A file that should hold pictures and cannot be read: it counts as one picture, which says why."""

    name: str
    problem: str

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Picture]:
        yield Picture(self.name, unreadable(self.problem))

    def cut(self, places: Sequence[int]) -> "Broken":
        return self

    def listing(self) -> list[str]:
        return [f"{self.name} {self.problem}"]


@dataclass(frozen=True)
class Source:
    """Pictures of a name, the first `limit` of them, part by part."""

    name: str
    parts: Sequence[PicturePart]
    limit: int | None = None

    @cached_property
    def counts(self) -> list[int]:
        """How many pictures each part has, up to the one that reaches the limit; parts behind it are not counted."""
        counts: list[int] = []
        for part in self.parts:
            enough = self.limit is not None and sum(counts) >= self.limit
            counts.append(0 if enough else len(part))
        return counts

    def counted(self, counts: Sequence[int]) -> "Source":
        """The source with counts that were taken before, so that tars need not be gone through again."""
        self.__dict__["counts"] = list(counts)
        return self

    def __len__(self) -> int:
        whole = sum(self.counts)
        return whole if self.limit is None else min(whole, self.limit)

    def __iter__(self) -> Iterator[Picture]:
        return islice(chain.from_iterable(self.parts), self.limit)

    def cut(self, places: Sequence[int]) -> list[PicturePart]:
        """The pictures at these places, which rise, as parts that hold no others."""
        parts, first = [], 0
        for part, count in zip(self.parts, self.counts, strict=True):
            if of_part := _between(places, first, first + count):
                parts.append(part.cut(of_part))
            first += count
        return parts

    @property
    def unmatched(self) -> list[str]:
        """Names in files of captions, and texts, that fit no picture."""
        return [name for part in self._counted() for name in getattr(part, "unmatched", ())]

    @property
    def empty(self) -> int:
        """Rows of captions files without any text."""
        return sum(getattr(part, "empty", 0) for part in self._counted())

    def _counted(self) -> list[PicturePart]:
        """Parts of which any picture is meant."""
        return [part for part, count in zip(self.parts, self.counts, strict=True) if count]

    @cached_property
    def content(self) -> str:
        """A hash of names and sizes, by which a source is recognised that has changed."""
        lines = (line for part in self.parts for line in part.listing())
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Joined:
    """A whole source as a part of a larger one."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.source)

    def cut(self, places: Sequence[int]) -> "Joined":
        return Joined(Source(self.source.name, self.source.cut(places)))

    def listing(self) -> list[str]:
        return [self.source.content]

    @property
    def unmatched(self) -> list[str]:
        """Names in its files of captions, and texts, that fit no picture."""
        return self.source.unmatched

    @property
    def empty(self) -> int:
        """Rows of its captions files without any text."""
        return self.source.empty


def _between(places: Sequence[int], first: int, end: int) -> Sequence[int]:
    """Those of the places from `first` up to `end`, counted from `first`."""
    if isinstance(places, range):
        return range(max(places.start, first) - first, min(places.stop, end) - first)
    return [place - first for place in places if first <= place < end]
