"""The command that measures how much was copied."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command

if TYPE_CHECKING:
    from mnemoscope.measuring.comparison import Generated
    from mnemoscope.measuring.measurement import Measurement
    from mnemoscope.measuring.sides import Sources


@dataclass(frozen=True, kw_only=True)
class MeasuredImages:
    """The generated images, and what was asked for."""

    PANEL: ClassVar = opt.INPUT
    generated: Annotated[str, typer.Argument(help="A run of generate, or images: folder, zip, tars, parquet, hub:.")]
    prompts: Annotated[str | None, opt.of(opt.INPUT, "What was asked for, where the images do not say it.")] = None
    column: opt.Column = None
    unmitigated: Annotated[str | None, opt.of(opt.COMPARISON, "The same images drawn without mitigation.")] = None
    limit: opt.Limit = None

    def read(self) -> "list[Generated]":
        """The images, each with what is known of it."""
        from mnemoscope.measuring.generated import read_generated
        from mnemoscope.prompts.prompt import read_prompts

        wanted = read_prompts(self.prompts, column=self.column) if self.prompts else ()
        return read_generated(self.generated, prompts=wanted, unmitigated=self.unmitigated, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class MeasuredAgainst:
    """What generated images are compared with, and by what beside their features."""

    PANEL: ClassVar = opt.COMPARISON
    references: Annotated[str | None, opt.of(opt.COMPARISON, "Training images, read alike, or an index.")] = None
    captions: opt.ReferenceCaptions = None
    held_out: Annotated[str | None, opt.of(opt.COMPARISON, "Images the model never saw, as a control.")] = None
    duplicates: Annotated[
        Path | None, opt.of(opt.COMPARISON, "Run of index duplicates or of train: how often references occur.")
    ] = None
    alignment: opt.Alignment = None
    network: Annotated[Path | None, opt.of(opt.METHOD, "TorchScript network whose features judge quality.")] = None
    network_preset: Annotated[str | None, opt.of(opt.METHOD, "Geometry of that network, by name.")] = None

    def sources(self, column: str | None, device: str) -> "Sources":
        """They as a measurement takes them."""
        from mnemoscope.features import descriptor
        from mnemoscope.features.alignment import aligner
        from mnemoscope.measuring.sides import Sources

        judge = None
        if self.network:
            judge = descriptor("network", preset=self.network_preset, weights=self.network, device=device)
        return Sources(
            references=self.references,
            captions=self.captions,
            column=column,
            held_out=self.held_out,
            duplicates=self.duplicates,
            aligner=aligner(self.alignment, device) if self.alignment else None,
            network=judge,
        )


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured, and where the numbers go."""

    PANEL: ClassVar = opt.METHOD
    metrics: Annotated[
        list[str] | None,
        opt.of(opt.METHOD, "A measure; repeat it. All that can be if none.", autocompletion=opt.methods("measure")),
    ] = None
    param: opt.Param = None
    threshold: Annotated[
        float | None, opt.of(opt.METHOD, "Similarity above which an image is a copy; the features' own if none.")
    ] = None
    top_k: Annotated[int, opt.of(opt.METHOD, "References kept for each image.", min=1)] = 10
    gallery: opt.Gallery = 200
    seed: Annotated[int, opt.of(opt.METHOD, "Seed of the bootstrap and of all that is drawn at random.", min=0)] = 0
    trackers: Annotated[
        list[str] | None, opt.of(opt.RUN, "Trackers that the numbers go to as well: tensorboard, wandb; repeat it.")
    ] = None
    project: Annotated[str, opt.of(opt.RUN, "Name of the project in the trackers.")] = "mnemoscope"

    def measurement(self) -> "Measurement":
        """They as a measurement takes them; names of measures may stand in one text with commas between."""
        from mnemoscope.measuring.measurement import Measurement
        from mnemoscope.run.settings import parameters

        names = tuple(name.strip() for each in self.metrics or () for name in each.split(",") if name.strip())
        given, trackers = parameters(self.param), tuple(self.trackers or ())
        return Measurement(names, given, self.threshold, self.top_k, self.seed, self.gallery, trackers, self.project)


@command(app, spreads=True)
def measure(
    images: MeasuredImages,
    features: opt.Features,
    compared: MeasuredAgainst,
    measures: Measures,
    out: opt.Out,
    cache: Annotated[Path | None, opt.of(opt.RUN, "Folder of vectors that runs share; in --out if not given.")] = None,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compare generated images with training images: copies, variety, alignment, quality, with a gallery."""
    from mnemoscope.measuring.measurement import run_measurement

    summary = run_measurement(
        images.read(),
        out,
        features.descriptor(device),
        measures.measurement(),
        compared.sources(images.column, device),
        cache=cache,
        overwrite=overwrite,
    )
    opt.show(out, summary["failed"])
