"""Bytes of pictures that can be read only in the order of their source, kept in one file to be read in any."""

import os
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path


class Spool:
    """A temporary file, removed with the last set that reads from it; made only if something is put there.

    Any number of processes may read any picture at any time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.size = 0

    def put(self, data: bytes) -> Callable[[], bytes]:
        """Keep a picture's bytes; how to read them later."""
        if self.path is None:
            number, name = tempfile.mkstemp(prefix="pictures-", suffix=".bin", dir=self.folder)
            os.close(number)
            self.path = Path(name)
            weakref.finalize(self, os.unlink, name)
        with self.path.open("ab") as file:
            file.write(data)
        start, self.size = self.size, self.size + len(data)
        return partial(_read, self.path, start, len(data))


def _read(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
