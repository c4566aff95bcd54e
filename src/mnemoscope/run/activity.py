"""Whether somebody is at work in a run's folder, without being in the way."""

import os
import time
from pathlib import Path

LOCKS = Path("/proc/locks")
LATELY = 120.0  # seconds since the last row, where the machine does not tell who holds a lock


def is_open(folder: Path) -> bool:
    """Whether a process has a run open: as this machine says of its lock, or else by how lately a row was written.

    The lock is not tried, as a command that begins at that moment would find it taken.
    """
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    try:
        held = LOCKS.read_text()
    except OSError:
        held = ""
    if held:
        inode = str(os.stat(lock).st_ino)
        return any(line.split()[5].rpartition(":")[2] == inode for line in held.splitlines() if "->" not in line)
    written = [file.stat().st_mtime for name in ("rows.jsonl", "run.json") if (file := folder / name).is_file()]
    return bool(written) and time.time() - max(written) < LATELY
