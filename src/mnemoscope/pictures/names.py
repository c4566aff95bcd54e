"""Which picture a name in a file of captions means: spelled alike, on another machine, in another case, without end."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

SUFFIXES = tuple(".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .tif .tiff .ppm .pgm .avif .jp2 .heic .heif .svg".split())
NUMBER = re.compile(r"(?:img_)?([0-9]{4,9})_", re.IGNORECASE)
LABELS = ("-masklabel", "-condlabel")  # of OneTrainer: where a loss counts, and what is conditioned on
Value = TypeVar("Value")
Found = tuple[str, int]  # a picture, and how far its name is from what was spelled


def suffix(name: str) -> str:
    """The ending of a name, in small letters."""
    return PurePosixPath(name).suffix.lower()


def stem(name: str) -> str:
    """A name without the ending of an image or a text beside one, whichever it has."""
    return name.removesuffix(PurePosixPath(name).suffix)


def labels(images: Iterable[str]) -> set[str]:
    """Images that are labels of another one beside them, and no pictures of their own."""
    stems = {name: stem(name) for name in images}
    pictures = set(stems.values())
    return {n for n, own in stems.items() if any(own.removesuffix(end) in pictures - {own} for end in LABELS)}


def numbered(names: Sequence[str]) -> dict[int, list[str]] | None:
    """Pictures by the number that their names begin with, as in 0007_sofa.jpg or img_0007_02.png.

    None where one of them has no such number.
    """
    by_number: dict[int, list[str]] = {}
    for name in names:
        if not (begins := NUMBER.match(PurePosixPath(name).name)):
            return None
        by_number.setdefault(int(begins[1]), []).append(name)
    return by_number


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key to sort names by, numbers in them by their value, however long they are."""
    texts = [part.lstrip("0") if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", name))]
    return [(len(part) if k % 2 else 0, part) for k, part in enumerate(texts)], name


class Names:
    """Pictures of a source by the names that files of captions may call them.

    A name is relative to the folder of the file, or a whole path of the machine where it was written, of which the
    longest end that is a picture counts. Where none is spelled like that, composed and decomposed letters, upper and
    lower case, and then the endings of images do not count, as long as one picture alone is meant. A file in a folder
    without pictures of its own, as COCO's annotations are, means the one picture of that name wherever it lies.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.exact = set(names)
        self.alike = _by(_folded, self.exact)
        self.bare = _by(_bare, self.exact)
        self.homes = {PurePosixPath(name).parent.as_posix() for name in self.exact}
        self.inside = _by(lambda name: PurePosixPath(name).name, self.exact)

    def find(self, spelled: str, folder: str = "") -> Found | None:
        parts = [p for p in PurePosixPath(spelled.replace("\\", "/")).parts if p != "."]
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        inside = [PurePosixPath(folder, end).as_posix() for end in ends]
        ways = [(inside[:1], 0, self._exactly), ([*inside[1:], *ends], 1, self._exactly)]
        ways += [([*inside, *ends], 2, self._alike), ([*inside, *ends], 3, self._barely)]
        for names, distance, way in ways:
            if matched := next(filter(None, map(way, names)), None):
                return matched, distance
        elsewhere = None if (folder or ".") in self.homes or not parts else self._anywhere("/".join(parts))
        return (elsewhere, 4) if elsewhere else None

    def _anywhere(self, name: str) -> str | None:
        return _only([each for each in self.inside.get(PurePosixPath(name).name, ()) if each.endswith(f"/{name}")])

    def _exactly(self, name: str) -> str | None:
        return name if name in self.exact else None

    def _alike(self, name: str) -> str | None:
        return _only(self.alike.get(_folded(name), ()))

    def _barely(self, name: str) -> str | None:
        return _only(self.bare.get(_bare(name), ()))


def fitted(said: Mapping[str, Value], names: Names, folder: str = "") -> tuple[dict[str, list[Value]], list[str]]:
    """What is said of each picture, by its own name, and the names that fit no picture or no one picture alone."""
    claims: dict[str, list[tuple[int, str]]] = {}
    lost = []
    for spelled in said:
        if (place := names.find(spelled, folder)) is None:
            lost.append(spelled)
        else:
            claims.setdefault(place[0], []).append((place[1], spelled))
    kept: dict[str, list[Value]] = {}
    for name, claimed in claims.items():
        nearest = min(claimed)[0]
        best = [spelled for distance, spelled in claimed if distance == nearest]
        is_one = nearest == 0 or len({_bare(spelled) for spelled in best}) == 1
        kept |= {name: [said[spelled] for spelled in best]} if is_one else {}
        lost += [spelled for _, spelled in claimed if not is_one or spelled not in best]
    return kept, lost


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _bare(name: str) -> str:
    return _folded(stem(name) if suffix(name) in SUFFIXES else name)


def _by(key: Callable[[str], str], names: Iterable[str]) -> dict[str, list[str]]:
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(key(name), []).append(name)
    return spelled


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None
