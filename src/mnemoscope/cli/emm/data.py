"""The command that writes training sets of the EMM experiments."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm
from mnemoscope.cli.fields import Given
from mnemoscope.emm.data.options import SubsetOptions

Source = Annotated[
    str, typer.Argument(help="Images: digits, folder, zip, npz, CIFAR archive, parquet, hub:owner/name.")
]
Target = Annotated[Path, opt.of(opt.RUN, "A .zip, an .npz or a folder, which is not there yet.", "--out")]
Tool = Annotated[
    str | None,
    opt.of(
        "Data",
        "Choose and label as a tool of the original: dataset_tool, dataset_size, dataset_diversity, dataset_random, "
        "dataset_unique, intra_diversity.",
    ),
]


@command(emm)
def data(
    source: Source,
    target: Target,
    subset: Annotated[dict[str, Any], Given(SubsetOptions)],
    tool: Tool = None,
) -> None:
    """Write a training set: a subset with labels of a kind, as a zip that the original's programs read."""
    from mnemoscope.emm.data.writing import write_subset
    from mnemoscope.emm.training.command import parsed

    opt.prepare()
    images = write_subset(source, target, tool, parsed(SubsetOptions, subset))
    classes = f" of {images.num_classes} classes" if images.num_classes else " without labels"
    typer.echo(f"{len(images)} images{classes}: {target}")
