"""Bytes of pictures that can be read only in the order of their source, kept in one file to be read in any."""

import os
import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any


class Spool:
    """A temporary file without a name, gone with the process at the latest; made only if something is put there.

    Forked processes may read any picture at any time: none of them moves the place where another one reads.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.size = 0

    @cached_property
    def _file(self) -> Any:
        file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115, it is read as long as the set lives
        weakref.finalize(self, file.close)
        return file

    def put(self, data: bytes) -> Callable[[], bytes]:
        """Keep a picture's bytes; how to read them later."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        start, self.size = self.size, self.size + len(data)
        return partial(self._read, start, len(data))

    def _read(self, start: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, start)
