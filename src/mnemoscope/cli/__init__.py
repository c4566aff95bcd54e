"""The command line: parse, call the library, print. Nothing heavy is imported before a command runs."""

import sys
from collections.abc import Callable
from typing import Any

import typer

from mnemoscope.cli import (  # noqa: F401  (each registers its commands)
    auditing,
    detecting,
    emm,
    experimenting,
    explaining,
    generating,
    indexing,
    localizing,
    measuring,
    recovering,
    rewriting,
    showing,
    sweeping,
    training,
)
from mnemoscope.cli.application import app
from mnemoscope.errors import UsageError


def _guarded(run: Callable[[], Any]) -> int:
    """Exit code of a command: 2 with one sentence for what the user can mend, 130 when interrupted."""
    try:
        run()
    except UsageError as e:
        typer.echo(f"mnemoscope: {e}", err=True)
        return 2
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        typer.echo(f"mnemoscope: {e.strerror or e}{where}; mend that and give the same command to go on.", err=True)
        return 2
    except SystemExit as e:
        if e.code == 130:
            typer.echo("mnemoscope: interrupted; the same command goes on where it was.", err=True)
        return int(e.code or 0)
    return 0


def main() -> None:
    """Entry point of the `mnemoscope` command."""
    sys.exit(_guarded(app))
