"""What a run was made with: versions, code identity, machine, time."""

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONS = ("mnemoscope", "torch", "diffusers", "transformers", "numpy")


def environment() -> dict[str, Any]:
    """Versions, code identity, machine and time of a run, for its record."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
        "git": _revision(),
        "machine": platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
