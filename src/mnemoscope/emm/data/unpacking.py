"""Packed files of arrays, unpacked up to a budget: a bomb is refused before it fills the memory."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast, runtime_checkable

from mnemoscope.pictures.files import read_file

MOST = 2**30  # bytes of one file once it is unpacked, 1 GiB; images of the largest set of this format are half of it
RATIO = 100  # bytes out for each byte in, where there are more than that


def unpacked(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is called .gz; raises `ValueError` for more than 1 GiB of them."""
    packed = read_file(path, MOST)
    if path.suffix != ".gz":
        return packed
    with gzip.open(io.BytesIO(packed)) as opened:
        data = opened.read(MOST + 1)
    if len(data) > MOST:
        raise ValueError(f"it unpacks to more than {MOST >> 20} MiB")
    return data


def members_of(path: Path, is_wanted: Callable[[str], object]) -> dict[str, bytes]:
    """Files of a tar, packed or not, whose names in their folder are wanted; raises `ValueError` past 1 GiB."""
    members = {}
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        whole = gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw)
        with whole as stream, tarfile.open(fileobj=cast(Any, LimitedStream(stream)), mode="r|") as archive:
            for member in archive:
                if member.isfile() and is_wanted(PurePosixPath(member.name).name):
                    members[member.name] = cast(Any, archive.extractfile(member)).read()
    return members


def check_npz(path: Path) -> None:
    """Refuse arrays that are far larger than the file that holds them; raises `ValueError`."""
    with zipfile.ZipFile(path) as archive:
        whole = sum(member.file_size for member in archive.infolist())
    if whole > max(MOST, RATIO * path.stat().st_size):
        raise ValueError(f"it unpacks to {whole >> 20} MiB, more than {RATIO} times its own size")


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


class LimitedStream:
    """A stream that ends with `ValueError` once it has given more than 1 GiB."""

    def __init__(self, stream: Readable) -> None:
        self.stream, self.given = stream, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        if self.given > MOST:
            raise ValueError(f"it unpacks to more than {MOST >> 20} MiB")
        return data
