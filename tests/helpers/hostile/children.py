"""Commands in forked children, which may die and be killed, with what they printed."""

import contextlib
import hashlib
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from matplotlib.figure import Figure
from PIL import Image

HANGS = 600.0  # seconds after which a child is taken to hang
ALONE = ("ray", "tensorboard", "__main__")  # what is not imported where others are forked from


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (-9 for a kill, 70 for a traceback), what it printed, whether it hung."""

    code: int
    said: str
    hung: bool = False


def child(work: Callable[[], object], *, patience: float = HANGS) -> Ended:
    """Do the work in a fork of this process, so that nothing has to be imported again."""
    with tempfile.TemporaryFile() as printed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
            number = os.fork()
        if number == 0:
            _in_child(work, printed.fileno())
        timer = threading.Timer(patience, os.kill, (number, signal.SIGKILL))
        timer.start()
        began = time.monotonic()
        status = os.waitpid(number, 0)[1]
        timer.cancel()
        printed.seek(0)
        said = printed.read().decode("utf-8", "replace")
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - began >= patience)


def command(words: Sequence[object]) -> Callable[[], object]:
    """A command line as work for a child."""

    def work() -> object:
        from mnemoscope.cli import main

        sys.argv = ["mnemoscope", *map(str, words)]
        return main()

    return work


def _in_child(work: Callable[[], object], printed: int) -> None:
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
        work()
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def opened_before(models: Sequence[str | Path]) -> Callable[..., Any]:
    """`loading.open_model` with these models opened here once; children may do to their copies what they like."""
    from mnemoscope.model import loading

    real, known = loading.open_model, {str(name): loading.open_model(str(name), device="cpu") for name in models}
    plain = (None, "own", "auto", "cpu", "float32", (), [])

    def opened(model: str, **options: Any) -> Any:
        is_plain = all(value in plain for value in options.values())
        return known[model] if model in known and is_plain else real(model, **options)

    return opened


def save_as_data(figure: Figure, place: IO[bytes], **options: Any) -> None:
    """In the place of `Figure.savefig`: a small picture of all that a figure holds, in a hundredth of the time."""
    held = hashlib.sha256()
    kinds = ("lines", "patches", "collections", "texts", "images")
    for artist in [each for axes in figure.axes for kind in kinds for each in getattr(axes, kind)]:
        for name in ("get_text", "get_xydata", "get_offsets", "get_array", "get_facecolor"):
            if hasattr(artist, name):
                held.update(str(getattr(artist, name)()).encode())
    Image.frombytes("L", (32, 1), held.digest()).save(place, format="PNG")


def import_as(modules: Sequence[str]) -> None:
    """Import here what a child imported, so that the next child need not."""
    for name in modules:
        if name not in sys.modules and name.partition(".")[0] not in ALONE:
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
