"""CPU seconds until a command has done its work, where it needs no model, against what loading models' libraries takes.

    python benchmarks/start.py [--rounds 5]

Each command runs in a process of its own, and the CPU seconds are those of the process. The plain way imports torch,
diffusers and transformers, as every command would that imports all it may need at its start.
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from PIL import Image

import timing

COMMANDS = {
    "--help": "--help",
    "list": "list",
    "detect --dry-run": "detect demo --prompts prompts.txt --dry-run",
    "detect, the prompts are not there": "detect demo --prompts nowhere.txt --out no",
    "report": "report run",
    "index build, 16 pictures": "index build pictures --features pixels --out index --overwrite",
    "measure, 16 pictures": "measure pictures --references pictures --features pixels --out run --overwrite",
    "emm ratio, 16 pictures": "emm ratio pictures --references pictures --out ratio --overwrite",
}
PLAIN = "import torch, diffusers, transformers; from diffusers import StableDiffusionPipeline, UNet2DConditionModel"


def process(words: list[str], folder: str) -> timing.Taken:
    """Seconds of a process, and of what it started."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return timing.Taken([cpu], [time.perf_counter() - wall])


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = timing.parsed(parser, commands=["--help"])
    results = timing.Results(args.rows)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("pictures").mkdir()
        for k in range(16):
            Image.effect_noise((32, 32), 20 + 10 * k).convert("RGB").save(f"pictures/{k}.png")
        Path("prompts.txt").write_text("a red chair\n")
        called = {name: ["-m", "mnemoscope.cli", *COMMANDS[name].split()] for name in args.commands}
        if "report" in called:
            process(["-m", "mnemoscope.cli", *COMMANDS["measure, 16 pictures"].split()], folder)
        ways = {"libraries of models imported": ["-c", PLAIN], **called}
        taken: dict[str, timing.Taken] = {name: timing.Taken() for name in ways}
        for _ in range(args.rounds):
            for name, once in ((name, partial(process, words, folder)()) for name, words in ways.items()):
                taken[name].cpu += once.cpu
                taken[name].wall += once.wall
        results.times("start of a command", "a call", taken)


if __name__ == "__main__":
    main()
