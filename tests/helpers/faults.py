"""Faults planted in a copy of the code, one at a time: whether the tests that are named beside each notice it.

python tests/helpers/faults.py [FIRST [LAST]]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from places import HELPERS, PACKAGE, TESTS

CAUGHT = 1  # pytest's exit code for tests that failed


def faults() -> list[dict[str, str]]:
    return yaml.safe_load((HELPERS / "faults.yaml").read_text(encoding="utf-8"))


def planted(fault: dict[str, str], sources: Path) -> None:
    file = sources / "mnemoscope" / fault["file"]
    text = file.read_text(encoding="utf-8")
    assert text.count(fault["old"]) == 1, fault
    file.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")


def noticed(fault: dict[str, str]) -> bool:
    """Whether a test of those named fails with the fault in the code."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "src"
        shutil.copytree(PACKAGE, sources, ignore=shutil.ignore_patterns("__pycache__"))
        planted(fault, sources)
        tests = [str(TESTS / name) for name in fault["tests"].split()]
        environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder}/tests"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
        if done.returncode not in (0, CAUGHT):
            raise RuntimeError(f"{fault}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == CAUGHT


def main(first: int = 1, last: int | None = None) -> int:
    found, survivors = faults(), 0
    for number, fault in list(enumerate(found, 1))[first - 1 : last]:
        is_noticed = noticed(fault)
        survivors += not is_noticed
        print(f"{number:3} {'noticed ' if is_noticed else 'SURVIVED'} {fault['file']}: {fault['new']}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
