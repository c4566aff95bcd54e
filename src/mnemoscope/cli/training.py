"""The command that trains or fine-tunes a model on images with captions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command

if TYPE_CHECKING:
    from mnemoscope.training.watching.probes import Probes

DATA, OBJECTIVE, NETWORK = "Data", "Objective", "Network and optimizer"
RUNNING, WATCHING = "Run", "Watching"


def _of(panel: str, text: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


@command(app)
def train(
    model: Annotated[str, typer.Argument(help="demo, a pipeline folder, a .safetensors checkpoint, or a hub id.")],
    data: Annotated[str, _of(DATA, "Images with captions: folder, zip, tars, parquet, jpg+txt pairs, hub:.")],
    out: opt.Out,
    base: Annotated[str | None, _of(DATA, "A further set, mixed with the data.")] = None,
    base_ratio: Annotated[float, _of(DATA, "Pictures of the base set for each of the data's.")] = 0,
    repeats: Annotated[int, _of(DATA, "How often the data is listed.")] = 1,
    subset: Annotated[float | None, _of(DATA, "The first N pictures, or a share below 1.")] = None,
    subset_by: Annotated[str, _of(DATA, "first, or random (as many of each class).")] = "first",
    captions: Annotated[str | None, _of(DATA, "A further file of captions of the data.")] = None,
    column: opt.Column = None,
    duplication: Annotated[str, _of(DATA, "none, both (image and caption) or image.")] = "none",
    duplicated: Annotated[float, _of(DATA, "Share of the pictures that is duplicated.")] = 0.05,
    factor: Annotated[int, _of(DATA, "How many times as often those are shown.")] = 5,
    duplication_by: Annotated[str, _of(DATA, "weights, or repeat for literal copies.")] = "weights",
    conditioning: Annotated[
        str, _of(DATA, "original, instance, multiple, nolevel, class or random captions.")
    ] = "original",
    transform: Annotated[list[str] | None, _of(DATA, "A caption transform, name:count=2; repeat it.")] = None,
    probability: Annotated[float, _of(DATA, "How likely a transform is at each view.")] = 1.0,
    resolution: Annotated[int | None, _of(DATA, "Pixels of a side; the model's own if not given.")] = None,
    center_crop: Annotated[bool, _of(DATA, "Crop in the middle, or anywhere.", "--center-crop/--random-crop")] = True,
    random_flip: Annotated[bool, _of(DATA, "Flip half of the views.", "--random-flip/--no-flip")] = False,
    prediction_type: Annotated[str | None, _of(OBJECTIVE, "What is to be predicted, if not the model's own.")] = None,
    snr_gamma: Annotated[float | None, _of(OBJECTIVE, "Min-SNR weights with this gamma.")] = None,
    noise_offset: Annotated[float, _of(OBJECTIVE, "Noise that is constant over a channel.")] = 0,
    input_perturbation: Annotated[float, _of(OBJECTIVE, "Further noise that is not predicted.")] = 0,
    embedding_noise: Annotated[float, _of(OBJECTIVE, "Gaussian noise on the text embedding.")] = 0,
    embedding_mixup: Annotated[float, _of(OBJECTIVE, "Mix captions' embeddings, Beta(value, 1).")] = 0,
    mixup: Annotated[str, _of(OBJECTIVE, "One share a batch, or one a sample.")] = "batch",
    hard_threshold: Annotated[
        float | None, _of(OBJECTIVE, "Leave samples out whose text changes the prediction by this or more.")
    ] = None,
    threshold_form: Annotated[str, _of(OBJECTIVE, "joint, or element for a size-free threshold.")] = "joint",
    train: Annotated[str, _of(NETWORK, "unet, unet+text, lora or scratch.")] = "unet",
    unet: Annotated[Path | None, _of(NETWORK, "Folder of a U-Net to put in the place of the model's own.")] = None,
    unet_config: Annotated[str | None, _of(NETWORK, "JSON file of the U-Net from scratch.")] = None,
    lora_rank: Annotated[int, _of(NETWORK, "Rank of the LoRA.")] = 4,
    lora_alpha: Annotated[float | None, _of(NETWORK, "Scale of the LoRA; its rank if not given.")] = None,
    steps: Annotated[int, _of(NETWORK, "Updates of the weights.")] = 1000,
    batch_size: Annotated[int, _of(NETWORK, "Samples of a process in one pass.")] = 4,
    accumulation: Annotated[int, _of(NETWORK, "Passes of a process in one update.")] = 1,
    learning_rate: Annotated[float, _of(NETWORK, "Of the weights.")] = 1e-5,
    scale_lr: Annotated[bool, _of(NETWORK, "Times the samples of an update.", "--scale-lr/--no-scale-lr")] = False,
    lr_scheduler: Annotated[
        str, _of(NETWORK, "constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial.")
    ] = "constant",
    warmup: Annotated[int, _of(NETWORK, "Updates in which the learning rate rises.")] = 0,
    optimizer: Annotated[str, _of(NETWORK, "adamw or adamw8bit.")] = "adamw",
    adam_beta1: Annotated[float, _of(NETWORK, "Decay of the mean gradient.")] = 0.9,
    adam_beta2: Annotated[float, _of(NETWORK, "Decay of the mean squared gradient.")] = 0.999,
    adam_epsilon: Annotated[float, _of(NETWORK, "Added to the divisor.")] = 1e-8,
    weight_decay: Annotated[float, _of(NETWORK, "Of the weights.")] = 1e-2,
    max_grad_norm: Annotated[float, _of(NETWORK, "Gradients are clipped at this norm.")] = 1.0,
    ema: Annotated[list[float] | None, _of(NETWORK, "Decay of an average of the weights; repeat it.")] = None,
    mixed_precision: Annotated[str, _of(RUNNING, "no, fp16 or bf16.")] = "no",
    gradient_checkpointing: Annotated[
        bool, _of(RUNNING, "Less memory for more time.", "--gradient-checkpointing/--no-gradient-checkpointing")
    ] = False,
    tf32: Annotated[bool, _of(RUNNING, "TF32 on an NVIDIA GPU.", "--tf32/--no-tf32")] = False,
    compile: Annotated[bool, _of(RUNNING, "Compile the U-Net.", "--compile/--no-compile")] = False,
    checkpoint_every: Annotated[int, _of(RUNNING, "Steps from checkpoint to checkpoint.")] = 500,
    keep: Annotated[int | None, _of(RUNNING, "Checkpoints that are kept; all if not given.")] = None,
    resume: Annotated[str, _of(RUNNING, "auto, or a checkpoint of another run to begin from.")] = "auto",
    overwrite: Annotated[bool, _of(RUNNING, "Start anew.", "--overwrite")] = False,
    seed: Annotated[int, _of(RUNNING, "Of all that is drawn at random.", min=0)] = 0,
    device: opt.Device = "auto",
    preview_every: Annotated[int, _of(WATCHING, "Steps from preview to preview; 0 for none.")] = 0,
    preview_prompts: Annotated[list[str] | None, _of(WATCHING, "A prompt to draw; repeat it.")] = None,
    preview_images: Annotated[int, _of(WATCHING, "Images of each prompt.")] = 4,
    preview_inference_steps: Annotated[int, _of(WATCHING, "Sampling steps of a preview.")] = 50,
    preview_guidance: Annotated[float, _of(WATCHING, "Guidance of a preview.")] = 7.5,
    probe_every: Annotated[int, _of(WATCHING, "Steps from probe to probe; 0 for none.")] = 0,
    probe_prompts: Annotated[str | None, _of(WATCHING, "Prompts to probe, if not the data's.")] = None,
    probe_count: Annotated[int, _of(WATCHING, "Pictures of each group whose captions are probed.")] = 8,
    probe_detectors: Annotated[list[str] | None, _of(WATCHING, "A detector; repeat it. noise_norm if none.")] = None,
    probe_images: Annotated[int, _of(WATCHING, "Images of each probe; 0 for scores alone.")] = 1,
    probe_inference_steps: Annotated[int, _of(WATCHING, "Sampling steps of a probe.")] = 20,
    probe_guidance: Annotated[float, _of(WATCHING, "Guidance of a probe.")] = 7.5,
    probe_features: Annotated[str, _of(WATCHING, "What a probe's images are compared by.")] = "pixels",
    probe_seed: Annotated[int, _of(WATCHING, "First seed of the probes.")] = 0,
    stop_above: Annotated[list[str] | None, _of(WATCHING, "Stop above own_similarity=0.8; repeat it.")] = None,
    stop_by: Annotated[str, _of(WATCHING, "The mean or the max of a group's probes.")] = "mean",
    trackers: Annotated[list[str] | None, _of(WATCHING, "tensorboard, wandb, trackio ...; repeat it.")] = None,
    project: Annotated[str, _of(WATCHING, "Name of the project in the trackers.")] = "mnemoscope",
) -> None:
    """Train or fine-tune a model, with duplication, captions and filters as asked, and watch it memorize."""
    given = dict(locals())
    from mnemoscope.model.loading import load, quiet, settle_threads
    from mnemoscope.training.data.batches import training_set
    from mnemoscope.training.data.options import DataOptions
    from mnemoscope.training.loop import train as train_on
    from mnemoscope.training.objective import ObjectiveOptions
    from mnemoscope.training.options import TrainOptions, chosen
    from mnemoscope.training.watching.options import ProbeOptions

    quiet()
    settle_threads()
    asked = [chosen(kind, given) for kind in (DataOptions, TrainOptions, ObjectiveOptions, ProbeOptions)]
    pipe = load(model, unet=unet, device="cpu", dtype="float32")
    found = training_set(pipe, asked[0])
    watched = vars(asked[3])
    probes = _probes(found, asked[3])
    how: dict[str, Any] = {"callbacks": probes, "source": model, "overwrite": overwrite, "asked": watched}
    summary = train_on(pipe, found, out, *asked[1:3], **how)
    if summary:  # on the first process
        opt.show(out, 0)


def _probes(found: Any, options: Any) -> "list[Probes]":
    from mnemoscope.training.watching.probes import Probes, probes_of

    return [Probes(probes_of(found, options), options)] if options.probe_every else []
