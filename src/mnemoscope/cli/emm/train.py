"""The command that trains a network from scratch and measures how much it memorizes."""

from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm

DATA, NETWORK, TRAINING, SCORING, RUNNING = "Data", "Network", "Training", "Snapshots and scores", "Run"


def _of(panel: str, text: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


@command(emm)
def train(
    data: Annotated[str, _of(DATA, "Images: digits, folder, zip, npz, CIFAR archive, parquet, hub:owner/name.")],
    out: opt.Out,
    preset: Annotated[str, _of(RUNNING, "What is not given: small, or paper for the original's size.")] = "small",
    subset_size: Annotated[int | None, _of(DATA, "Images to train on, as many of each class.", min=1)] = None,
    subset_seed: Annotated[int, _of(DATA, "Which images these are.", min=0)] = 0,
    classes: Annotated[str | None, _of(DATA, "The first C classes, or those listed: 3,5,8.")] = None,
    mix: Annotated[str | None, _of(DATA, "A second source of images.")] = None,
    alpha: Annotated[float | None, _of(DATA, "Share of images from the second source.", min=0, max=1)] = None,
    label_mode: Annotated[str | None, _of(DATA, "none, true, random, random-iid, unique, constant, permuted.")] = None,
    label_classes: Annotated[int | None, _of(DATA, "Number of random labels.", min=1)] = None,
    resolution: Annotated[int | None, _of(DATA, "Pixels of a side, by Lanczos; the images' own if none.")] = None,
    balanced: Annotated[bool, _of(DATA, "As many images of each class.", "--balanced/--unbalanced")] = True,
    dedupe: Annotated[bool, _of(DATA, "Leave out exact copies first.", "--dedupe")] = False,
    architecture: Annotated[str | None, _of(NETWORK, "ddpmpp, ncsnpp or adm.")] = None,
    width: Annotated[int | None, _of(NETWORK, "Channels of the first convolution.")] = None,
    multipliers: Annotated[str | None, _of(NETWORK, "Channels of each level in widths: 2,2,2.")] = None,
    blocks: Annotated[int | None, _of(NETWORK, "Residual blocks of a level.")] = None,
    attention: Annotated[str | None, _of(NETWORK, "Resolutions that attend: 16, or none.")] = None,
    embedding: Annotated[str | None, _of(NETWORK, "Of the noise level: positional or fourier.")] = None,
    dropout: Annotated[float | None, _of(NETWORK, "Share of channels left out in training.")] = None,
    skips: Annotated[str | None, _of(NETWORK, "Skip connections, highest resolution first: 1,1,0,0.")] = None,
    preconditioning: Annotated[str | None, _of(NETWORK, "vp, ve, edm or iddpm, with its loss.")] = None,
    noise_input: Annotated[str | None, _of(NETWORK, "What the embedding sees: own, or log.")] = None,
    label_scale: Annotated[str | None, _of(NETWORK, "Strength of labels: classes, or constant.")] = None,
    steps: Annotated[int | None, _of(TRAINING, "Updates of the weights.")] = None,
    epochs: Annotated[float | None, _of(TRAINING, "Epochs, in place of steps.")] = None,
    batch_size: Annotated[int | None, _of(TRAINING, "Images of one update, over all processes.")] = None,
    accumulation: Annotated[int | None, _of(TRAINING, "Passes of a process in one update.")] = None,
    learning_rate: Annotated[float | None, _of(TRAINING, "Of the weights.")] = None,
    ramp_up: Annotated[int | None, _of(TRAINING, "Updates in which the learning rate rises from 0.")] = None,
    ramp_up_epochs: Annotated[float | None, _of(TRAINING, "The same in epochs.")] = None,
    optimizer: Annotated[str | None, _of(TRAINING, "adam or sgd.")] = None,
    adam_beta1: Annotated[float | None, _of(TRAINING, "Decay of the mean gradient.")] = None,
    adam_beta2: Annotated[float | None, _of(TRAINING, "Decay of the mean squared gradient.")] = None,
    adam_epsilon: Annotated[float | None, _of(TRAINING, "Added to the divisor.")] = None,
    momentum: Annotated[float | None, _of(TRAINING, "Of sgd.")] = None,
    weight_decay: Annotated[float | None, _of(TRAINING, "Times the weights, added to the gradient.")] = None,
    ema: Annotated[
        list[str] | None, _of(TRAINING, "Average of the weights: mode1, mode2, mode3 or a decay; repeat it.")
    ] = None,
    order: Annotated[str | None, _of(TRAINING, "shuffle, fixed or replacement.")] = None,
    x_flip: Annotated[bool, _of(TRAINING, "Mirror half of the views.", "--x-flip")] = False,
    augment: Annotated[float | None, _of(TRAINING, "Probability of changes that the network is told of.")] = None,
    snapshots: Annotated[int | None, _of(SCORING, "Snapshots in the whole training.")] = None,
    spacing: Annotated[str | None, _of(SCORING, "linear or log.")] = None,
    snapshot_at: Annotated[list[float] | None, _of(SCORING, "A share of the budget; repeat it.")] = None,
    keep: Annotated[str | None, _of(SCORING, "Snapshots that stay: all, or best.")] = None,
    samples: Annotated[int | None, _of(SCORING, "Images drawn of each snapshot and average; 0 for none.")] = None,
    sample_seed: Annotated[int | None, _of(SCORING, "Seed of the first image.")] = None,
    inference_steps: Annotated[int | None, _of(SCORING, "Sampling steps.")] = None,
    threshold: Annotated[float | None, _of(SCORING, "Nearest over second distance below which it is a copy.")] = None,
    score_batch: Annotated[int | None, _of(SCORING, "Images drawn at a time.")] = None,
    stop_at: Annotated[float | None, _of(SCORING, "Stop when the ratio is surely as high.")] = None,
    patience: Annotated[int | None, _of(SCORING, "Stop when it has not risen for so many snapshots.")] = None,
    flat_from: Annotated[float | None, _of(SCORING, "The ratio from which not rising counts.")] = None,
    mixed_precision: Annotated[str | None, _of(RUNNING, "no, fp16 or bf16.")] = None,
    tf32: Annotated[bool, _of(RUNNING, "TF32 on an NVIDIA GPU.", "--tf32/--no-tf32")] = False,
    checkpoint_every: Annotated[int | None, _of(RUNNING, "Steps from checkpoint to checkpoint.")] = None,
    seed: Annotated[int | None, _of(RUNNING, "Of all that is drawn at random.")] = None,
    device: opt.Device = "auto",
    trackers: Annotated[list[str] | None, _of(RUNNING, "tensorboard, wandb, trackio ...; repeat it.")] = None,
    project: Annotated[str | None, _of(RUNNING, "Name of the project in the trackers.")] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train a network from scratch and measure how many of its samples are copies of training images."""
    given = dict(locals())
    from mnemoscope.emm.training.command import Asked
    from mnemoscope.model.loading import quiet, settle_threads

    quiet()
    settle_threads()
    summary = Asked.of(preset, given).run(out, overwrite)  # empty on all processes but the first
    if summary.get("rows"):
        opt.show(out, 0)
    elif summary:
        typer.echo(f"Trained for {summary['steps']} steps; nothing was scored. Snapshots: {out / 'snapshots'}")
