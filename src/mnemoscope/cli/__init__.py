"""The command line: parse, call the library, print. Nothing heavy is imported before a command runs."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from mnemoscope.cli import (  # noqa: F401  (each registers its commands)
    auditing,
    benching,
    browsing,
    detecting,
    emm,
    experimenting,
    explaining,
    extracting,
    gating,
    generating,
    indexing,
    inferring,
    localizing,
    measuring,
    recovering,
    repairing,
    rewriting,
    showing,
    sweeping,
    training,
    watching,
)
from mnemoscope.cli.application import app as app
from mnemoscope.cli.application import whole
from mnemoscope.errors import UsageError, nearest, plain


def _guarded(run: Callable[[], Any]) -> int:
    """Exit code of a command: 2 with one sentence for what the user can mend, 130 when interrupted.

    A command itself leaves with 1 for counted failures, 3 where a policy failed, and 4 where it is undecided.
    """
    try:
        run()
    except UsageError as e:
        typer.echo(f"mnemoscope: {plain(str(e))}{_likely_path(str(e))}", err=True)
        return 2
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        message = plain(f"{e.strerror or e}{where}")
        typer.echo(f"mnemoscope: {message}; mend that and give the same command to go on.", err=True)
        return 2
    except SystemExit as e:
        if e.code == 130:
            typer.echo("mnemoscope: interrupted; the same command goes on where it was.", err=True)
        return int(e.code or 0)
    return 0


def _likely_path(message: str) -> str:
    """A question whether a path beside one that an error names, and that is not there, was meant; asked once."""
    for word in sys.argv[1:] if "did you mean" not in message.lower() else ():
        path = Path(word)
        if word in message and not word.startswith("-") and not path.exists() and path.parent.is_dir():
            near = nearest(path.name, (each.name for each in path.parent.iterdir()))  # a long folder is like itself
            if near:
                return f" Did you mean {path.parent / near}?"
    return ""


def main() -> None:
    """Entry point of the `mnemoscope` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may know fewer characters than prompts have
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_guarded(whole()))
