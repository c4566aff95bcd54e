"""Bytes of a file, up to so many: nothing but a regular file is waited for or read."""

import os
import stat
from pathlib import Path

from mnemoscope.pictures.decoding import Unreadable

LARGEST = 2**28  # bytes of one encoded image, 256 MiB
TEXT = 2**20  # bytes of one text beside an image, 1 MiB


def read_file(file: Path, most: int = LARGEST) -> bytes:
    """All bytes of a regular file; raises `Unreadable` for any other kind of file, such as a pipe or a device, and for
    more than `most` bytes, and `OSError` for what the system refuses.
    """
    opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(opened, "rb") as f:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        return limited(f.read(min(status.st_size, most) + 1), most)  # memory is taken for as much as is asked for


def limited(data: bytes, most: int = LARGEST) -> bytes:
    """The data; raises `Unreadable` if there is more of it than allowed."""
    if len(data) > most:
        raise Unreadable(f"more than {most >> 20} MiB")
    return data
