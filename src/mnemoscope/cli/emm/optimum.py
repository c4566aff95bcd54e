"""The command that draws images from the best possible denoiser of a training set."""

from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm

DATA, SAMPLING, RUNNING = "Data", "Sampling", "Run"


def _of(panel: str, text: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


@command(emm)
def optimum(
    data: Annotated[str, _of(DATA, "Images: digits, folder, zip, npz, CIFAR ..., hub.", "--data", "--network")],
    out: opt.Out,
    subset_size: Annotated[int | None, _of(DATA, "As many of the images, in turn from each class.", min=1)] = None,
    subset_seed: Annotated[int, _of(DATA, "Which images these are.", min=0)] = 0,
    label_mode: Annotated[str, _of(DATA, "none, true, random, random-iid, unique, constant, permuted.")] = "none",
    label_classes: Annotated[int | None, _of(DATA, "Number of random labels.", min=1)] = None,
    resolution: Annotated[int | None, _of(DATA, "Pixels of a side, by Lanczos; the images' own if none.")] = None,
    dedupe: Annotated[bool, _of(DATA, "Leave out exact copies first.", "--dedupe")] = False,
    images: Annotated[int | None, _of(RUNNING, "Images to draw, from seed 0 on; 64 without --seeds.", min=1)] = None,
    seeds: Annotated[str | None, _of(RUNNING, "The seeds of the images: 0-63,100.")] = None,
    label: Annotated[int | None, _of(SAMPLING, "Draw only images of this label.", min=0)] = None,
    num_inference_steps: opt.Steps = 18,
    sigma_min: Annotated[float | None, _of(SAMPLING, "Lowest noise level.")] = None,
    sigma_max: Annotated[float | None, _of(SAMPLING, "Highest noise level.")] = None,
    rho: Annotated[float, _of(SAMPLING, "Order of the root after which edm levels are even.")] = 7,
    solver: Annotated[str | None, _of(SAMPLING, "euler or heun.")] = None,
    discretization: Annotated[str | None, _of(SAMPLING, "Noise levels: vp, ve, iddpm or edm.")] = None,
    schedule: Annotated[str | None, _of(SAMPLING, "Noise level over time: vp, ve or linear.")] = None,
    scaling: Annotated[str | None, _of(SAMPLING, "vp or none.")] = None,
    alpha: Annotated[float | None, _of(SAMPLING, "Share of a step before its second evaluation.")] = None,
    s_churn: Annotated[float, _of(SAMPLING, "Noise added in all steps together; 0 for none.", min=0)] = 0,
    s_min: Annotated[float, _of(SAMPLING, "Lowest noise level to which noise is added.")] = 0,
    s_max: Annotated[float | None, _of(SAMPLING, "Highest noise level to which noise is added.")] = None,
    s_noise: Annotated[float, _of(SAMPLING, "What the added noise is multiplied by.")] = 1,
    batch_size: Annotated[int, _of(RUNNING, "Images drawn at a time.", min=1)] = 64,
    gallery: Annotated[int, _of(RUNNING, "Images shown beside their nearest training images.", min=0)] = 24,
    runner: Annotated[str, _of(RUNNING, "local, or ray for the machines of a Ray cluster.")] = "local",
    gpus: Annotated[float, _of(RUNNING, "Share of a GPU for each worker of Ray.", min=0)] = 0.0,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Draw images from the optimal denoiser of a training set, in closed form, and measure how many are copies."""
    given = dict(locals())
    from mnemoscope.emm.optimum.command import draw_optimum
    from mnemoscope.model.loading import quiet, settle_threads

    quiet()
    settle_threads()
    draw_optimum(given)
    opt.show(out, 0)
