"""Tars that are packed as a whole: unpacked once, into a file without a name, up to a budget."""

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, cast
from weakref import finalize

PACKERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SHORT = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}
TARS = (".tar", *SHORT, *(f".tar{end}" for end in PACKERS))
MOST, RATIO = 2**30, 20  # bytes out, and bytes out for each byte in where there are more; pictures are packed already
PIECE = 2**20


def packing(name: str) -> str | None:
    """How a tar of this name is packed: .gz, .bz2 or .xz; None for a plain tar, and for what is no tar."""
    path = Path(name.lower())
    return SHORT.get(path.suffix) or (path.suffix if path.suffix in PACKERS and path.stem.endswith(".tar") else None)


class TarBytes:
    """The bytes of a tar, as they are or unpacked; `problem` says where unpacking ended early."""

    def __init__(self, path: Path) -> None:
        self.path, self.problem = path, cast(str | None, None)
        self._lock, self._files = Lock(), ExitStack()
        finalize(self, self._files.close)

    def __reduce__(self) -> "tuple[Callable[[Path], TarBytes], tuple[Path]]":
        return _elsewhere, (self.path,)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """A file to seek and read in."""
        if packing(self.path.name) is None:
            with self.path.open("rb") as file:
                yield file
            return
        with self._lock:
            self._unpacked.seek(0)
            yield self._unpacked

    @cached_property
    def _unpacked(self) -> IO[bytes]:
        most = max(MOST, RATIO * self.path.stat().st_size)
        file: IO[bytes] = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        try:
            with PACKERS[packing(self.path.name) or ""](self.path) as packed:
                while piece := packed.read1(PIECE):
                    if file.tell() + len(piece) > most:
                        self.problem = f"it unpacks to more than {most >> 20} MiB"
                        break
                    file.write(piece)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as e:
            if isinstance(e, OSError) and e.errno is not None:  # of the disk; gzip and bz2 say damage without a number
                raise
            self.problem = str(e).partition("\n")[0]
        file.flush()
        return file


@lru_cache(maxsize=4)
def _elsewhere(path: Path) -> TarBytes:
    """The bytes in a process that they were sent to, which unpacks them once."""
    return TarBytes(path)
