"""The commands that search a model for what it has memorized, and that check a list of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.cli.running import Answered
from mnemoscope.run.reading import Json

if TYPE_CHECKING:
    from mnemoscope.extract.settings import Extraction
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.prompts.prompt import Prompt


@dataclass(frozen=True, kw_only=True)
class WalkOptions:
    """How the vocabulary is searched."""

    PANEL: ClassVar = opt.METHOD
    budget: Annotated[int, opt.of(opt.METHOD, "Network evaluations that may be spent.", min=1)] = 20_000
    score: Annotated[str, opt.of(opt.METHOD, "One-step score; see mnemoscope list score.")] = "noise_norm"
    tokens: Annotated[int, opt.of(opt.METHOD, "Tokens of a prompt that is searched for.", min=1)] = 8
    chains: Annotated[int, opt.of(opt.METHOD, "Walks side by side; 0 for random prompts alone.", min=0)] = 16
    candidates: Annotated[int, opt.of(opt.METHOD, "Tokens that are tried at each place.", min=1)] = 16
    patience: Annotated[int, opt.of(opt.METHOD, "Exchanges without a better prompt that end a walk.", min=1)] = 8
    proposals: Annotated[str, opt.of(opt.METHOD, "Where tokens come from: words, gradient or masked.")] = "words"
    masked_lm: Annotated[str | None, opt.of(opt.METHOD, "Folder of a masked language model, for masked.")] = None
    deviations: Annotated[
        float, opt.of(opt.METHOD, "Deviations above random prompts from which a prompt is drawn.", min=0.0)
    ] = 3.0
    least: Annotated[int, opt.of(opt.COMPARISON, "Images that have to be alike.", min=2)] = 3
    below: Annotated[float, opt.of(opt.COMPARISON, "Tiled distance below which two images are.", min=0.0)] = 0.15
    tiles: Annotated[int, opt.of(opt.COMPARISON, "Tiles across, each of which must be alike.", min=1)] = 4

    def extraction(self, sampling: opt.SamplingOptions, images: int) -> "Extraction":
        """They as a search takes them; each option is the field of its name."""
        from mnemoscope.extract.settings import Extraction
        from mnemoscope.run.settings import one_of

        one_of("--proposals", self.proposals, ("words", "gradient", "masked"))
        return Extraction(**vars(self), images=images, seed=sampling.seed, **sampling.settings)


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Captions to begin with, where there are some."""

    PANEL: ClassVar = opt.INPUT
    prompts: Annotated[str | None, opt.of(opt.INPUT, opt.SOURCES)] = None
    column: opt.Column = None
    limit: Annotated[int | None, opt.of(opt.INPUT, "Read only so many prompts.")] = None

    def read(self, model: "Denoiser", seed: int) -> "list[Prompt]":
        """The captions in the order of their source; none where no source was given."""
        if self.prompts is None:
            return []
        return opt.read_prompts(model, self.prompts, self.column, self.limit, seed)


@command(app, spreads=True)
def extract(
    model: opt.Model,
    captions: CaptionOptions,
    walks: WalkOptions,
    sampling: opt.SamplingOptions,
    features: opt.PixelFeatures,
    out: opt.Out,
    images: opt.Images = 4,
    references: opt.References = None,
    reference_captions: opt.ReferenceCaptions = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Search a model for prompts whose images are memorized, from words alone or from captions."""
    from mnemoscope.extract.run import run_extraction
    from mnemoscope.features.references import read_references

    extraction = walks.extraction(sampling, images).checked()
    loaded = model.load()
    descriptor = features.descriptor(loaded.device.type)
    known = (
        None if references is None else read_references(references, captions=reference_captions, descriptor=descriptor)
    )
    summary = run_extraction(
        loaded,
        out,
        extraction,
        descriptor,
        captions=captions.read(loaded, sampling.seed),
        references=known,
        batch=batch_size,
        overwrite=overwrite,
    )
    opt.show(out, summary["failed"])


@command(app, "verify-list")
def verify_list(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A hits.jsonl that extract wrote.")],
    model: Annotated[str, opt.of(opt.MODEL, "The model to draw with: demo, demo-flow, a folder, a file, a hub id.")],
    unet: opt.Unet = None,
    device: opt.Device = "auto",
    limit: opt.Limit = None,
    batch_size: opt.Batch = "auto",
) -> Json:
    """Draw a list of hits again and say which hold: 0 if all do, 3 if one does not."""
    from mnemoscope.errors import plain
    from mnemoscope.extract.hits import read_hits
    from mnemoscope.extract.verifying import verify_hits

    hits = read_hits(file)[:limit]
    loaded = opt.Model(model=model, unet=unet, device=device).load()
    found = verify_hits(loaded, hits, batch=batch_size)
    for each in found:
        alike = f"{sum(each['alike'])} of {len(each['alike'])} images below {each['below']:g}"
        typer.echo(plain(f"{'HOLDS' if each['holds'] else 'GONE':<6} {alike}: {each['prompt']}"))
    held = sum(each["holds"] for each in found)
    others = "" if all(each["same_model"] for each in found) else "; the list is of other weights than these"
    typer.echo(f"{held} of {len(found)} hits hold for {plain(model)}{others}.")
    told = {"file": str(file), "hits": len(found), "hold": held, "rows": found}
    if held < len(found):
        raise Answered(3, told)
    return told
