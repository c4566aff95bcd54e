"""All that the captions files of a source say of its pictures, and what in them fits none."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mnemoscope.errors import UsageError
from mnemoscope.pictures.beside import SIDECARS
from mnemoscope.pictures.captions import FILES, LABELS, Reader, Said, Told, is_captions, merged, read_captions, told_by
from mnemoscope.pictures.columns import folded
from mnemoscope.pictures.files import read_file
from mnemoscope.pictures.names import Names, fitted, natural, numbered, stem, suffix


@dataclass(frozen=True, slots=True)
class Read:
    """What is said of each picture by its name, names that fit none, and how many rows have no text."""

    said: dict[str, Said]
    unmatched: tuple[str, ...] = ()
    empty: int = 0

    @classmethod
    def of(cls, reader: Reader, files: Iterable[str], names: Sequence[str], column: str | None) -> "Read":
        """What the captions files among `files` say of pictures of these names.

        Rows of several files come together, each caption once; labels of `dataset.json` are captions where there is no
        other. A file that is only called like one, and holds something else, is unmatched as a whole.
        """
        known = Names(names)
        captions: dict[str, list[Said]] = {}
        labels: dict[str, list[Said]] = {}
        unmatched, empty = [], 0
        for file in files:
            try:
                told = read_captions(file, told_by(reader)(file), column)
            except UsageError:
                if PurePosixPath(file).name.lower() in FILES:
                    raise
                unmatched.append(file)
                continue
            folder = PurePosixPath(file).parent.as_posix()
            fit, lost = fitted(told.said, known, "" if folder == "." else folder)
            into = labels if PurePosixPath(file).name.lower() == LABELS else captions
            for name, each in fit.items():
                into.setdefault(name, []).extend(each)
            unmatched += [f"{file}: {spelled}" for spelled in lost]
            empty += told.empty
        return cls({n: merged(each) for n, each in (labels | captions).items()}, tuple(unmatched), empty)

    def with_given(self, captions: Path, names: Sequence[str], column: str | None, source: str) -> "Read":
        """The same with a file that the user names, which decides what it says of a picture.

        A table that names no picture is of pictures with numbers in their names: those of its rows. Raises `UsageError`
        if it names none of them.
        """
        told = _given(captions, column, names)
        fit, lost = fitted(told.said, Names(names))
        if not fit:
            raise UsageError(f"{captions} names no picture of {source}; write paths relative to it.")
        given = {name: merged(each) for name, each in fit.items()}
        unmatched = (*self.unmatched, *(f"{captions}: {spelled}" for spelled in lost))
        return Read({**self.said, **given}, unmatched, self.empty + told.empty)


def _given(captions: Path, column: str | None, names: Sequence[str]) -> Told:
    data = told_by(lambda name: read_file(Path(name)))(str(captions))
    return read_captions(str(captions), data, column, numbered(names))


def captions_files(files: Iterable[str]) -> list[str]:
    """The files with captions of several pictures, in natural order."""
    return sorted((n for n in files if is_captions(n)), key=natural)


def beside(images: Sequence[str], files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Texts of each image: those of its name but for the ending, or with a further one; case only if it must."""
    exact: dict[str, list[str]] = {}
    for file in files:
        if suffix(file) in SIDECARS and not is_captions(file):
            exact.setdefault(stem(file), []).append(file)
    alike = {_alike(name): texts for name, texts in exact.items()}
    several = Counter(map(_alike, {stem(image) for image in images}))
    texts_beside = {}
    for image in images:
        texts_of = exact.get(stem(image)) or exact.get(image)
        if texts_of is None and several[_alike(stem(image))] == 1:
            texts_of = alike.get(_alike(stem(image)))
        if texts_of:
            texts_beside[image] = tuple(sorted(texts_of))
    return texts_beside


def _alike(name: str) -> str:
    return folded(name).casefold()
