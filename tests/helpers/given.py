"""Gives the command lines of a JSON list, one after the other, in this folder; stops at the first that fails.

`mnemoscope` alone is called in this process, which saves the time in which torch is imported; with a pipe, a launcher
or a program of another name, bash is asked.
"""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from mnemoscope import cli

PLAIN = re.compile(r"mnemoscope [^|>&;]*$")


def give(line: str) -> tuple[int, str]:
    """Exit code of a line, and what it said as an error."""
    if not PLAIN.match(line):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    words = shlex.split(line, comments=True)[1:]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        code = cli._guarded(lambda: cli.app(words))
    return code, error.getvalue()


def main() -> None:
    """Print a JSON object for each line that was given."""
    for line, allowed in json.loads(Path(sys.argv[1]).read_text()):
        begun = time.monotonic()
        code, error = give(line)
        print(json.dumps([line, code, error[-2000:], round(time.monotonic() - begun, 1)]), flush=True)
        if code not in allowed:
            return


if __name__ == "__main__":
    main()
