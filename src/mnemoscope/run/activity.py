"""Whether somebody is at work in a run's folder, and the moment for which that question may be in another's way."""

import os
from pathlib import Path

MOMENT = 0.2  # seconds for which a command that begins waits for a lock, as somebody may just be asking


def is_open(folder: Path) -> bool:
    """Whether a process has a run open, found by asking for a share in its lock, which is given back at once.

    Reading is enough for that: the folder may be another user's.
    """
    import fcntl  # not everywhere, and runs do without it

    try:
        lock = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
