"""Commands in forked children, which may die and be killed, with what they printed."""

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

HANGS = 300.0  # seconds after which a child is taken to hang


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


def preload(models: Sequence[str | Path]) -> None:
    """Have the models that commands name loaded here once; children may do to their copies what they like."""
    from mnemoscope.model import loading

    load, known = loading.load, {str(name): loading.load(str(name), device="cpu") for name in models}

    def loaded(model: str, **options: object) -> object:
        plain = {k: v for k, v in options.items() if v is not None and v not in ("own", "auto", "cpu", "float32")}
        return known[model] if model in known and not plain else load(model, **options)  # type: ignore[arg-type]

    loading.load = loaded  # type: ignore[assignment]
