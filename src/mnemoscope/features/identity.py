"""What makes vectors comparable: the descriptor, its geometry and normalisation, and the weights that made them."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from mnemoscope.errors import UsageError


@dataclass(frozen=True)
class Identity:
    """Descriptor, preset (checkpoint's geometry and normalisation), first digits of the weights' SHA-256, dimension.

    `weights` is "none" for a descriptor without a network. Vectors of two identities are never compared.
    """

    features: str
    preset: str
    weights: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.features} {self.preset} {self.weights} {self.dimension}"


def comparable(a: Identity, b: Identity) -> None:
    """Raise `UsageError` unless vectors of both identities may be compared."""
    theirs = asdict(b)
    differing = [f"{key} {value} and {theirs[key]}" for key, value in asdict(a).items() if value != theirs[key]]
    if differing:
        raise UsageError(
            f"These vectors were made differently ({', '.join(differing)}) and their similarities mean nothing; "
            "make both with the same features, preset and weights."
        )


def weights_of(files: Iterable[Path]) -> str:
    """First 16 hex digits of a SHA-256 over the contents of weight files, in the order of their names."""
    digests = [_digest(file.resolve(), *_state(file)) for file in sorted(files)]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return whole[:16]


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _digest(file: Path, modified: int, size: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
