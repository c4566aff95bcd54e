"""The seal of a run: SHA-256 hashes of all its files, and what was changed, taken away or added since."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json, read_json
from mnemoscope.run.run import write_json
from mnemoscope.run.writing import clean_beside, is_partial, sha256_of

SEAL, LOCK, VERSION = "seal.json", ".lock", 1


@dataclass(frozen=True)
class Changes:
    """Files of a run that are not as they were sealed, by their paths in it; `seal` is the SHA-256 of the seal."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    files: int
    seal: str

    @property
    def any(self) -> bool:
        return bool(self.changed or self.missing or self.added)


def seal(run: Path) -> Json:
    """Write `seal.json` into a run's folder and return what it holds.

    Raises `UsageError` for a folder that holds no run, and for a run that is sealed already and was changed since.
    """
    _require_run(run)
    clean_beside(run / SEAL)
    if (run / SEAL).exists() and verify(run).any:
        raise UsageError(
            f"{run} was sealed and changed since; see mnemoscope verify, or delete {run / SEAL} to seal anew."
        )
    held = {"schema": VERSION, "algorithm": "sha256", "files": hashes(run)}
    write_json(run / SEAL, held)
    return held


def verify(run: Path) -> Changes:
    """What was changed in a run since it was sealed; raises `UsageError` where it has no readable seal."""
    if not (run / SEAL).is_file():
        raise UsageError(f"{run} has no seal; seal it with mnemoscope seal {run}.")
    held = read_json(run / SEAL)
    before = held.get("files")
    if not isinstance(before, dict) or held.get("algorithm") != "sha256" or held.get("schema") != VERSION:
        raise UsageError(f"{run / SEAL} is no seal that this version reads; put the file back as it was written.")
    now = hashes(run)
    return Changes(
        changed=tuple(name for name in now if name in before and before[name] != now[name]),
        missing=tuple(sorted(name for name in before if name not in now)),
        added=tuple(name for name in now if name not in before),
        files=len(before),
        seal=sha256_of(run / SEAL),
    )


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of each file of a run by its path in it, sorted; of a link that of where it points to."""
    return {path.relative_to(run).as_posix(): _hash(path) for path in sorted(_files(run))}


def _hash(path: Path) -> str:
    if path.is_symlink():
        return "link:" + hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    return sha256_of(path) if path.is_file() else "no file"  # a pipe would never end


def _files(run: Path) -> Iterator[Path]:
    """All files of a run but its seal, its locks and what a kill left half written."""
    for here, folders, files in os.walk(run):
        place = Path(here)
        links = [name for name in folders if (place / name).is_symlink()]
        for name in [*links, *files]:
            if name != LOCK and not is_partial(name) and place / name != run / SEAL:
                yield place / name


def _require_run(run: Path) -> None:
    if not (run / "run.json").is_file():
        raise UsageError(f"{run} holds no run; give the folder that a command wrote.")
