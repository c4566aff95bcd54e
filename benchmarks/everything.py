"""Run all benchmarks that compare seconds, one after the other, and write docs/performance.md: `make bench`.

    python benchmarks/everything.py [--only detect search ...] [--results build/bench] [--page docs/performance.md]

Each script runs in a process of its own with one thread. What has come to its end is not run again at the same commit;
one that fails is counted and named in the page, with the last line that it wrote, and tried again at the next call.
With `--smallest` the sizes say nothing and serve to try the scripts. Exits with 1 where a script failed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timing
from mnemoscope.run.environment import environment

HERE = Path(__file__).parent
TIMED: dict[str, tuple[str, ...]] = {  # scripts that compare seconds, each with the options of each of its runs
    "start": ("",),
    "detect": ("", "--large --prompts 16"),
    "explain": ("", "--large --prompts 2 --steps 3"),
    "mitigate": ("", "--large --prompts 2"),
    "flipd": ("", "--large"),
    "neurons": ("--prompts 1", "--prompts 1 --layers all --tests 20"),
    "parts": ("",),
    "embed": ("",),
    "search": ("--queries 1000 --vectors 100000",),
    "nearest_pixels": ("",),
    "train": ("", "--large"),
    "train_data": ("",),
    "emm_train": ("",),
    "emm_ratio": ("",),
    "optimum": ("",),
    "emm_sweep": ("",),
}
FOUND = {  # scripts that say what is found, or what models of full size take: their numbers are in docs/fidelity.md
    *("bundled", "dose_response", "early_warning", "full_size", "mitigations", "neurons_by_gradient"),
    *("extract", "membership", "presets", "recover", "regions", "sequential", "words"),
}


@dataclass(frozen=True)
class Job:
    """A script with its options, and the file of its results."""

    script: str
    options: str
    folder: Path
    smallest: bool

    @property
    def name(self) -> str:
        return f"{self.script} {self.options}".strip()

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name.replace(' ', '_')}{'.smallest' if self.smallest else ''}.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        """What it wrote at its last run; nothing where there was none."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def is_done(self, commit: str | None) -> bool:
        lines = self.lines()
        return bool(lines) and lines[-1].get("commit") == commit and not lines[-1].get("failed")

    def run(self, commit: str | None) -> None:
        """Run the script; the last line of its file says how it ended."""
        part = self.file.with_suffix(".part")
        part.unlink(missing_ok=True)
        words = [*self.options.split(), "--rows", str(part.resolve()), *(["--smallest"] if self.smallest else [])]
        began, environ = time.perf_counter(), {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(HERE / f"{self.script}.py"), *words]
        ended = subprocess.run(command, capture_output=True, text=True, env=environ)
        failed = None
        if ended.returncode or not part.exists():
            failed = (ended.stderr.strip().splitlines() or [f"it wrote no rows, and ended with {ended.returncode}"])[-1]
        about = {"commit": commit, "minutes": round((time.perf_counter() - began) / 60, 1), "failed": failed}
        with part.open("a") as file:
            file.write(json.dumps(about | {"date": datetime.now(UTC).date().isoformat()}) + "\n")
        part.replace(self.file)


def jobs(args: argparse.Namespace) -> list[Job]:
    """Every run there is; at the smallest size one of each script."""
    return [
        Job(script, options, args.results, args.smallest)
        for script, each in TIMED.items()
        for options in (("",) if args.smallest else each)
    ]


def page(all_jobs: list[Job], commit: str | None, smallest: bool) -> str:
    """The page in Markdown."""
    return "\n".join(_lines(all_jobs, commit, smallest)) + "\n"


def _lines(all_jobs: list[Job], commit: str | None, smallest: bool) -> Iterator[str]:
    done = [(job, lines) for job in all_jobs if (lines := job.lines())]
    failed = [(job, lines[-1]["failed"]) for job, lines in done if lines[-1]["failed"]]
    waiting = [job.name for job in all_jobs if not job.lines()]
    yield "# Performance\n"
    yield "<!-- Written by `make bench` (benchmarks/everything.py); what is changed by hand is lost. -->\n"
    if smallest:
        yield "**Made at the smallest sizes, to try the scripts: these ratios say nothing.**\n"
    yield (
        "Each table is printed by a script in `benchmarks/`, one thread, the ways taking turns, medians over rounds. "
        "*Times less than plain* is the CPU time of the first way, which is the plain one, over this one's; *times the "
        "bound* is this one's over that of the way called bound, which does only what cannot be left out. "
        "Wall seconds suffer from whatever else ran on the machine; CPU seconds much less.\n"
    )
    about = environment()["versions"]
    versions = ", ".join(f"{name} {version}" for name, version in about.items() if version)
    yield f"Machine: {processor()}, {os.cpu_count()} cores. Versions: {versions}. Commit: {commit or 'unknown'}.\n"
    left = f"; not run yet: {', '.join(waiting)}" if waiting else ""
    yield f"{len(done) - len(failed)} of {len(all_jobs)} runs came to their end, {len(failed)} failed{left}.\n"
    for job, why in failed:
        yield f"- failed: `benchmarks/{job.name}`: `{why}`"
    names = ", ".join(sorted(FOUND))
    yield (
        f"\nWhat methods find, and models of full size, are the subject of further scripts ({names}); their numbers "
        "are in [Fidelity](fidelity.md).\n"
    )
    for job, lines in done:
        if not lines[-1]["failed"]:
            yield from _section(job, lines)


def _section(job: Job, lines: list[dict[str, Any]]) -> Iterator[str]:
    *told, about = lines
    earlier = f", commit {about['commit']}" if about["commit"] else ""
    script, _, options = job.name.partition(" ")
    yield f"## {job.name}\n"
    command = f"`python benchmarks/{script}.py{' ' + options if options else ''}`"
    yield f"{command}, {about['date']}{earlier}, {about['minutes']:g} minutes.\n"
    rows: list[timing.Row] = []
    for line in [*told, {}]:
        if "what" in line:
            rows.append(timing.Row(**line))
            continue
        if rows:
            yield timing.table(rows) + "\n"
            rows = []
        if "said" in line:
            yield f"- {line['said']}"
    yield ""


def processor() -> str:
    """The processor's own name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TIMED, help="run these alone; the page has all that were run")
    parser.add_argument("--results", type=Path, default=HERE.parent / "build/bench")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs/performance.md")
    parser.add_argument("--smallest", action="store_true")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    commit, listed = environment()["git"], jobs(args)
    for k, job in enumerate(listed, 1):
        if not (job.is_done(commit) or (args.only and job.script not in args.only)):
            print(f"{k} of {len(listed)}: {job.name}", flush=True)
            job.run(commit)
            args.page.write_text(page(listed, commit, args.smallest), encoding="utf-8")
    args.page.write_text(page(listed, commit, args.smallest), encoding="utf-8")
    sys.exit(any(lines[-1]["failed"] for job in listed if (lines := job.lines())))


if __name__ == "__main__":
    main()
