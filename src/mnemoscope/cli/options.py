"""Options that several commands have, and what they all do with them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.prompts.prompt import Prompt

Model = Annotated[str, typer.Argument(help="demo, a pipeline folder, a .safetensors checkpoint, or a hub id.")]
Prompts = Annotated[str, typer.Option(help="txt, csv, jsonl, json or parquet file, hub:owner/name, random:N, or -.")]
Negatives = Annotated[str | None, typer.Option(help="Ordinary prompts, to calibrate on; read like --prompts.")]
Column = Annotated[str | None, typer.Option(help="Column of the caption, where its name is not a usual one.")]
Limit = Annotated[int | None, typer.Option(help="Read only the first N prompts.")]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Unet = Annotated[Path | None, typer.Option(help="Folder of a U-Net to put in the place of the model's own.")]
Lora = Annotated[Path | None, typer.Option(help="LoRA weights to load into the model.")]
Scheduler = Annotated[str, typer.Option(help="own, ddim, ddpm, dpm++, euler, pndm or unipc.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
Steps = Annotated[int, typer.Option(min=1, help="Sampling steps from noise to image.")]
Guidance = Annotated[float, typer.Option(help="1 is no guidance.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the first image; the next ones follow.")]
Batch = Annotated[str, typer.Option(help="Samples in one forward pass, or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite/--resume", help="Start anew, or go on with the run in --out.")]
Threshold = Annotated[
    str | None,
    typer.Option(help="Mitigate only what passes it: a detection's run or summary.json, or a number for noise_norm."),
]
Features = Annotated[str, typer.Option(help="What images are compared by: sscd, clip, dino, pixels.")]
Preset = Annotated[str | None, typer.Option(help="Geometry and normalisation by name; the usual one if not given.")]
Weights = Annotated[str | None, typer.Option(help="File or folder of the weights, where they are not packaged.")]
Fpr = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of ordinary prompts that may be flagged.")]


def configured(context: Any, file: Path | None) -> Path | None:  # typer gives a context that is no typer.Context
    from mnemoscope.run.settings import read_settings

    if file is not None:
        names = [p.name for p in context.command.params if p.name]
        several = [p.name for p in context.command.params if p.name and p.multiple]
        context.default_map = {**(context.default_map or {}), **read_settings(file, names, several)}
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="YAML file with these options; the command line wins.", is_eager=True, callback=configured
    ),
]


def load_model(name: str, unet: Path | None, lora: Path | None, scheduler: str, device: str, dtype: str) -> "Denoiser":
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.model.loading import quiet, settle_threads

    quiet()
    settle_threads()
    return Denoiser.from_pretrained(name, unet=unet, lora=lora, scheduler=scheduler, device=device, dtype=dtype)


def load_prompts(model: "Denoiser", source: str, column: str | None, limit: int | None, seed: int) -> "list[Prompt]":
    from mnemoscope.prompts.prompt import read_prompts

    tokenizer = getattr(model.pipe, "tokenizer", None)
    return read_prompts(source, column=column, limit=limit, tokenizer=tokenizer, seed=seed)


def asked_for(**options: Any) -> dict[str, Any]:
    """Options that were given, as a run records them."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value is not None
    }


def show(run: Path, failed: int) -> None:
    """Write the report of a run, print its summary, and leave with 1 if anything failed."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.report.terminal import print_run

    write([run])
    print_run(run, Console())
    if failed:
        raise typer.Exit(1)
