"""The command that serves the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.app.subject import PageSubject


@dataclass(frozen=True, kw_only=True)
class ShownModel(opt.Model):
    """A model by an option, the bundled one unless told otherwise."""

    model: Annotated[str, opt.of(opt.MODEL, "demo, demo-flow, a pipeline folder, a .safetensors file, a hub id.")] = (
        "demo"
    )


@dataclass(frozen=True, kw_only=True)
class ShownSampling:
    """How images are sampled, where the model does not say it."""

    PANEL = opt.SAMPLING
    num_inference_steps: Annotated[
        int | None, opt.of(opt.SAMPLING, "Sampling steps; 20 of a bundled model, else 50.", min=1)
    ] = None
    guidance_scale: Annotated[float | None, opt.of(opt.SAMPLING, "3 of a bundled model, else the pipeline's own.")] = (
        None
    )
    images: Annotated[int, opt.of(opt.SAMPLING, "Images of each prompt.", min=1, max=8)] = 2

    @property
    def given(self) -> dict[str, Any]:
        """What was given, by the names that a sampling takes."""
        known = {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class HeldAgainst:
    """What prompts and pictures are held against; a bundled model brings its own."""

    PANEL = opt.COMPARISON
    negatives: Annotated[
        str | None, opt.of(opt.INPUT, "Ordinary prompts, which set the threshold; read like --prompts.")
    ] = None
    negatives_limit: Annotated[int | None, opt.of(opt.INPUT, "Read only so many of the ordinary prompts.")] = None
    threshold: opt.Flagging = None
    fpr: opt.Fpr = 0.01
    references: opt.References = None
    captions: opt.Captions = None
    index: Annotated[Path | None, opt.of(opt.COMPARISON, "Index of training images, in place of --references.")] = None
    similarity: Annotated[
        float | None, opt.of(opt.COMPARISON, "Similarity above which a picture is a copy; the features' own if none.")
    ] = None
    alignment: opt.Alignment = None


PUBLIC = "Make a link by gradio's servers that opens the page, runs and all, to whoever has it, for a week at most."


@command(app, "app")
def app_(
    model: ShownModel,
    sampling: ShownSampling,
    against: HeldAgainst,
    own: opt.OwnFeatures,
    runs: Annotated[Path, opt.of(opt.RUN, "Folder of the runs that are listed.")] = Path("runs"),
    host: Annotated[str, opt.of(opt.RUN, "Address to listen at; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[
        int | None, opt.of(opt.RUN, "Port to listen at; the first free one from 7860 on if none.", min=1, max=65535)
    ] = None,
    share: Annotated[bool, opt.of(opt.RUN, PUBLIC, "--share")] = False,
) -> None:
    """Serve a page on this machine: try a prompt, check a picture, read runs in a browser."""
    import threading

    from mnemoscope.app.serving import need_gradio, served

    need_gradio()
    with served(subject(model, sampling, against, own), runs, host=host, port=port, share=share) as address:
        typer.echo(f"The page is at {address}; Ctrl-C ends it.")
        if share:
            typer.echo("Whoever has this address can use the page and read its runs until then, for a week at most.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("Ended.")


def subject(model: ShownModel, sampling: ShownSampling, against: HeldAgainst, own: opt.OwnFeatures) -> "PageSubject":
    """What the page is about, with what a bundled model brings along where nothing else was given."""
    from mnemoscope.app.subject import PageSubject, bundled
    from mnemoscope.features.alignment import aligner

    if against.index and against.references:
        raise UsageError("--index and --references were both given; give one of them to compare pictures with.")
    loaded = model.load()
    about = bundled(model.model)
    if against.negatives is not None:
        prompts = opt.read_prompts(loaded, against.negatives, None, against.negatives_limit, 0)
        about |= {"negatives": prompts, "negatives_from": f"of {Path(against.negatives).name}"}
    if against.index or against.references or own.features:
        about |= {"index": against.index, "references": against.references or about.get("references")}
        about |= {"features": _features(own, against.index, model.device)}
    if against.index:
        about["references"] = None
    if against.alignment:
        about["aligner"] = aligner(against.alignment, model.device)
    return PageSubject(
        model=loaded,
        sampling=sampling.given,
        images=sampling.images,
        threshold=against.threshold,
        fpr=against.fpr,
        captions=against.captions,
        similarity=against.similarity,
        **about,
    )


def _features(own: opt.OwnFeatures, index: Path | None, device: str) -> Any:
    """The function that makes what pictures are compared by: the index's own, or pixels, unless told otherwise."""
    from mnemoscope.search import Index

    if index is not None:
        return lambda: own.like(Index.open(index).identity).descriptor(device)
    if own.features is None:
        return lambda: opt.PixelFeatures(preset=own.preset, weights=own.weights).descriptor(device)
    return lambda: opt.Features(features=own.features, preset=own.preset, weights=own.weights).descriptor(device)
