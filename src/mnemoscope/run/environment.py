"""What a run was made with: versions, code identity, machine, time."""

import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mnemoscope.run.reading import Json

MOST_THREADS = 1024  # more are no record of any machine
VERSIONS = ("mnemoscope", "torch", "diffusers", "transformers", "numpy")


def environment() -> Json:
    """Versions, code identity, machine and time of a run, for its record."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
        "git": _revision(),
        "machine": platform.machine(),
        "threads": threads_now(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def threads_now() -> int | None:
    """Threads that torch computes with, on which the last digits depend; None where it is not loaded."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def keep_threads(recorded: Any) -> None:
    """Compute with as many threads as a run did before, so that a busy machine gives the same digits."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(recorded, int) and 0 < recorded <= MOST_THREADS:
        torch.set_num_threads(recorded)


def _revision() -> str | None:
    """Git revision of a checkout of mnemoscope; None for an installed package or where there is no git."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
