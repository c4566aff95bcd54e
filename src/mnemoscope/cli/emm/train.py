"""The command that trains a network from scratch and measures how much it memorizes."""

from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm
from mnemoscope.cli.fields import Given
from mnemoscope.emm.data.options import SubsetOptions
from mnemoscope.emm.networks.options import NetworkOptions
from mnemoscope.emm.training.options import EmmTrainOptions

Data = Annotated[str, opt.of("Data", "Images: digits, folder, zip, npz, CIFAR archive, parquet, hub:owner/name.")]
Preset = Annotated[str, opt.of("Run", "What is not given: small, or paper for the original's size.")]
DryRun = Annotated[bool, opt.of("Run", "Print the settings that would hold and what they would cost.", "--dry-run")]


@command(emm)
def train(
    data: Data,
    subset: Annotated[dict[str, Any], Given(SubsetOptions)],
    network: Annotated[dict[str, Any], Given(NetworkOptions)],
    training: Annotated[dict[str, Any], Given(EmmTrainOptions)],
    out: opt.Out,
    preset: Preset = "small",
    dry_run: DryRun = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train a network from scratch and measure how many of its samples are copies of training images."""
    from mnemoscope.emm.training.command import AskedTraining

    opt.prepare()
    asked = AskedTraining.of(preset, {"data": data, **subset, **network, **training})
    if dry_run:
        for line in asked.plan():
            typer.echo(line)
        return
    summary = asked.run(out, overwrite)  # empty on all processes but the first
    if summary.get("rows"):
        opt.show(out, 0)
    elif summary:
        typer.echo(f"Trained for {summary['steps']} steps; nothing was scored. Snapshots: {out / 'snapshots'}")
