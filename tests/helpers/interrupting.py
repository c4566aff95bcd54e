"""A training that is interrupted as by Ctrl-C, once it has a checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mnemoscope as mn


def interrupted(words: Sequence[object], run: Path) -> Path:
    """Give a command, interrupt it at its first checkpoint, and see how it ends; returns the checkpoint."""
    command = [sys.executable, "-m", "mnemoscope.cli", *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    waited = time.monotonic()
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() - waited < 120:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "mnemoscope: interrupted; the same command goes on where it was.\n"
    (checkpoint,) = run.glob("checkpoints/step-*")
    return checkpoint
