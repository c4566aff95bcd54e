"""One picture: its name in its source, its bytes on demand, and what its source says about it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures.decoding import Missing, Unreadable, decoded
from mnemoscope.pictures.files import LARGEST

__all__ = ["LARGEST", "Missing", "Picture", "Unreadable", "missing", "unreadable"]


@dataclass(frozen=True)
class Picture:
    """A picture of a source; nothing is read before it is asked for.

    `key` is unique in the source: a path relative to it, `shard.tar:000123`, `file.zip:a/b.png` or `file.parquet:17`;
    it is a name and never a place to write to. The first of `captions` is the caption. `kind`, `label` and `seed` are
    what the source's columns of these names say, a run of `generate` for instance.
    """

    key: str
    read: Callable[[], bytes]
    captions: tuple[str, ...] = ()
    url: str | None = None
    kind: str | None = None
    label: bool | None = None
    seed: int | None = None

    @property
    def caption(self) -> str | None:
        return self.captions[0] if self.captions else None

    def data(self) -> bytes:
        """The encoded image; raises `Unreadable`, or `Missing` where the source lists it and does not hold it."""
        try:
            return self.read()
        except FileNotFoundError as e:
            raise Missing("the file is gone") from e
        except OSError as e:
            raise Unreadable(f"the file cannot be read: {e.strerror or e}") from e

    def image(self) -> Image.Image:
        """The picture in RGB, upright, transparency on white, the first of several frames; raises `Unreadable`."""
        return decoded(self.data())

    def sha256(self) -> str:
        """Hash of the encoded image; raises `Unreadable`."""
        return hashlib.sha256(self.data()).hexdigest()


def required(picture: Picture) -> Image.Image:
    """The picture where nothing can be done without it; raises `UsageError` if it cannot be read."""
    try:
        return picture.image()
    except Unreadable as e:
        raise UsageError(f"The image {picture.key} cannot be read: {e}; mend it, or leave it out.") from e


def missing(reason: str) -> Callable[[], NoReturn]:
    """The `read` of a picture that its source lists and does not hold."""
    return lambda: _refuse(Missing(reason))


def unreadable(reason: str) -> Callable[[], NoReturn]:
    """The `read` of a picture that cannot be got at."""
    return lambda: _refuse(Unreadable(reason))


def _refuse(error: Unreadable) -> NoReturn:
    raise error
