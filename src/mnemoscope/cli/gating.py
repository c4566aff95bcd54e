"""The commands that a release hangs on: a policy held against runs, and seals of runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.cli.running import Answered
from mnemoscope.run.reading import Json

if TYPE_CHECKING:
    from mnemoscope.gate.policy import Policy

PolicyFile = Annotated[Path, opt.of(opt.RUN, "YAML file with the limits that the runs must keep.")]
ARun = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


@command(app)
def gate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or of an audit.")],
    policy: PolicyFile,
    baseline: Annotated[Path | None, opt.of(opt.INPUT, "Earlier run: what changed since, by the prompts' ids.")] = None,
    out: Annotated[Path | None, opt.of(opt.RUN, "Folder of the verdict; by default gate in the first run.")] = None,
) -> Json:
    """Hold runs against a policy: 0 where they pass, 3 where one check fails, 4 where it is undecided."""
    from mnemoscope.gate.policy import read_policy
    from mnemoscope.gate.run import default_folder

    verdict, code = held(runs, read_policy(policy), baseline, out)
    show(verdict, out or default_folder(runs))
    if code:
        raise Answered(code, verdict)
    return verdict


def held(runs: list[Path], policy: "Policy", baseline: Path | None = None, out: Path | None = None) -> tuple[Json, int]:
    """Write the verdict, its page with it; returns it with the exit code that it asks for."""
    from mnemoscope.gate.run import EXIT_CODES, default_folder, run_gate
    from mnemoscope.report.gated import write_verdict

    verdict = run_gate(runs, policy, before=baseline, out=out)
    write_verdict(verdict, runs, out or default_folder(runs))
    return verdict, EXIT_CODES[verdict["verdict"]]


def show(verdict: Json, folder: Path) -> None:
    """Each check in a line, what changed since the baseline, the verdict, and where it lies."""
    from mnemoscope.errors import plain

    if changed := verdict["baseline"]:
        typer.echo(plain(changed["headline"]))
        counts = [
            f"{len(changed[name])} {name.replace('_', ' ')}" for name in ("newly_flagged", "cleared", "still_flagged")
        ]
        typer.echo(f"{changed['prompts']} prompts in common: {', '.join(counts)}; {changed['thresholds']}")
    for check in verdict["checks"]:
        typer.echo(plain(f"{check['outcome'].upper():<9}  {check['name']}: {check['why']}"))
    typer.echo(f"Verdict: {verdict['verdict']}; {verdict['leaks']:,} copied images; {folder / 'verdict.html'}")


@command(app)
def seal(run: ARun) -> Json:
    """Write the hashes of all files of a run into it, for verify to compare with."""
    from mnemoscope.gate.sealing import SEAL
    from mnemoscope.gate.sealing import seal as sealed
    from mnemoscope.run.writing import sha256_of

    files, digest = len(sealed(run)["files"]), sha256_of(run / SEAL)
    typer.echo(f"{files:,} files sealed. SHA-256 of {run / SEAL}, to keep elsewhere: {digest}")
    return {"run": str(run), "files": files, "seal": digest}


@command(app)
def verify(run: ARun) -> Json:
    """Say what was changed in a run since it was sealed: 0 if nothing was, 3 if anything was."""
    from mnemoscope.errors import plain
    from mnemoscope.gate.sealing import verify as verified

    found = verified(run)
    for name in ("changed", "missing", "added"):
        for file in getattr(found, name):
            typer.echo(plain(f"{name}: {file}"))
    count = sum(len(getattr(found, name)) for name in ("changed", "missing", "added"))
    said = f"{count:,} files are not as they were sealed." if count else "as sealed."
    typer.echo(f"{found.files:,} files sealed, {said} SHA-256 of the seal: {found.seal}")
    told = {"run": str(run), **asdict(found)}
    if count:
        raise Answered(3, told)
    return told
