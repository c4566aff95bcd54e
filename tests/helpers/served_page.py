"""The page in a process of its own, as its server leaves loops and sockets behind; `served_page.py FOLDER` is it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from places import HELPERS, PACKAGE

PLANTED = [str(HELPERS / "served_page.py")]
COMMAND = ["-m", "mnemoscope.cli", "app"]


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A program of Python, ended when the block ends."""
    paths = os.pathsep.join((str(PACKAGE), str(HELPERS)))
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    given = [sys.executable, "-u", *map(str, words)]
    made = subprocess.Popen(given, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield made
    finally:
        if made.poll() is None:
            made.terminate()
        made.communicate(timeout=60)


def address_of(made: subprocess.Popen[str]) -> str:
    """Where the page is, once it is there."""
    said = []
    for line in made.stdout or ():
        said.append(line)
        if found := re.search(r"The page is at (\S+);", line):
            return found[1]
    raise AssertionError("".join(said))


@contextmanager
def planted_page(folder: Path) -> Iterator[str]:
    """The page about the planted model, with the training pictures and the runs of a folder; yields its address."""
    with process(*PLANTED, folder) as made:
        yield address_of(made)


def main(folder: Path) -> None:
    """Serve the planted model until it is interrupted."""
    import planted_desk
    from mnemoscope.app.serving import served
    from mnemoscope.model.loading import quiet

    quiet()
    subject = planted_desk.about(planted_desk.training_pictures(folder / "training"))
    with served(subject, folder / "runs") as address:
        print(f"The page is at {address}; Ctrl-C ends it.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
