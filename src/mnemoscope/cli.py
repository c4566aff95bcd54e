"""The command line: parse, call the library, print. Nothing heavy is imported before a command runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.denoiser import Denoiser
    from mnemoscope.prompts import Prompt

app = typer.Typer(
    help="Find out what an image diffusion model has memorized from its training data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
Fpr = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of ordinary prompts that may be flagged.")]


def _configured(context: Any, file: Path | None) -> Path | None:  # typer gives a context that is no typer.Context
    from mnemoscope.settings import read_settings

    if file is not None:
        names = [p.name for p in context.command.params if p.name]
        context.default_map = {**(context.default_map or {}), **read_settings(file, names)}
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="YAML file with these options; the command line wins.", is_eager=True, callback=_configured
    ),
]


def _model(name: str, unet: Path | None, lora: Path | None, scheduler: str, device: str, dtype: str) -> "Denoiser":
    from mnemoscope.denoiser import Denoiser
    from mnemoscope.loading import quiet, settle_threads

    quiet()
    settle_threads()
    return Denoiser.from_pretrained(name, unet=unet, lora=lora, scheduler=scheduler, device=device, dtype=dtype)


def _prompts(model: "Denoiser", source: str, column: str | None, limit: int | None, seed: int) -> "list[Prompt]":
    from mnemoscope.prompts import read_prompts

    tokenizer = getattr(model.pipe, "tokenizer", None)
    return read_prompts(source, column=column, limit=limit, tokenizer=tokenizer, seed=seed)


def _asked(**options: Any) -> dict[str, Any]:
    """Options that were given, as a run records them."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value is not None
    }


def _show(run: Path, failed: int) -> None:
    """Write the report of a run, print its summary, and leave with 1 if anything failed."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.terminal import print_run

    write([run])
    print_run(run, Console())
    if failed:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Out = Path("demo-report"),
    overwrite: Overwrite = False,
    batch_size: Batch = "auto",
) -> None:
    """Audit the bundled model, which has memorized some of its training images, and write a report."""
    from mnemoscope.demo.tour import run_demo
    from mnemoscope.loading import quiet, settle_threads

    quiet()
    settle_threads()
    failed = run_demo(out, batch=batch_size, overwrite=overwrite)
    _show(out, failed)


@app.command()
def audit(
    model: Model,
    prompts: Prompts,
    out: Out,
    negatives: Negatives = None,
    references: Annotated[Path | None, typer.Option(help="Folder of training images to compare with.")] = None,
    method: Annotated[str, typer.Option(help="Detection method; see mnemoscope list.")] = "noise_norm",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a prompt's score is averaged over.")] = 4,
    images: Annotated[int, typer.Option(min=1, help="Images drawn for each prompt shown.")] = 4,
    most: Annotated[int, typer.Option(min=1, help="How many of the highest-scoring prompts are drawn.")] = 24,
    column: Column = None,
    limit: Limit = None,
    fpr: Fpr = 0.01,
    num_inference_steps: Steps = 50,
    guidance_scale: Guidance = 7.5,
    seed: Seed = 0,
    batch_size: Batch = "auto",
    unet: Unet = None,
    lora: Lora = None,
    scheduler: Scheduler = "own",
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    config: ConfigOption = None,
) -> None:
    """Detect, draw what is flagged beside its nearest training images, and write one report."""
    from mnemoscope.audit import run_audit
    from mnemoscope.detection import Detection
    from mnemoscope.generation import Generation
    from mnemoscope.references import read_references
    from mnemoscope.settings import parameters

    loaded = _model(model, unet, lora, scheduler, device, dtype)
    sampling: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    failed = run_audit(
        loaded,
        _prompts(loaded, prompts, column, limit, seed),
        out,
        Detection(method, parameters(param), seed=seed, seeds=seeds, **sampling),
        Generation(images=images, seed=seed, **sampling),
        negatives=_prompts(loaded, negatives, column, None, seed) if negatives else (),
        references=read_references(references) if references else None,
        most=most,
        fpr=fpr,
        batch=batch_size,
        overwrite=overwrite,
        asked=_asked(
            prompts=prompts,
            negatives=negatives,
            references=references,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
        ),
    )
    _show(out, failed)


@app.command()
def detect(
    model: Model,
    prompts: Prompts,
    out: Out,
    negatives: Negatives = None,
    method: Annotated[str, typer.Option(help="Detection method; see mnemoscope list.")] = "noise_norm",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a prompt's score is averaged over.")] = 1,
    threshold: Annotated[Path | None, typer.Option(help="summary.json of an earlier run, to flag with.")] = None,
    column: Column = None,
    limit: Limit = None,
    fpr: Fpr = 0.01,
    num_inference_steps: Steps = 50,
    guidance_scale: Guidance = 7.5,
    seed: Seed = 0,
    batch_size: Batch = "auto",
    unet: Unet = None,
    lora: Lora = None,
    scheduler: Scheduler = "own",
    device: Device = "auto",
    dtype: Dtype = "auto",
    format: Annotated[str, typer.Option(help="mnemoscope, or wen to write wen.jsonl as well.")] = "mnemoscope",
    overwrite: Overwrite = False,
    config: ConfigOption = None,
) -> None:
    """Score prompts by how much the model seems to have memorized of them."""
    from mnemoscope.detection import Detection, run_detection
    from mnemoscope.formats import export_wen
    from mnemoscope.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "wen"))
    if format == "wen" and method != "noise_norm":
        raise UsageError(f"--format wen holds noise_norm; leave out --method {method} or the format.")
    loaded = _model(model, unet, lora, scheduler, device, dtype)
    companions = ("uncond_norm",) if format == "wen" else ()
    summary = run_detection(
        loaded,
        _prompts(loaded, prompts, column, limit, seed),
        out,
        Detection(method, parameters(param), seed, seeds, num_inference_steps, guidance_scale, companions),
        negatives=_prompts(loaded, negatives, column, None, seed) if negatives else (),
        fpr=fpr,
        threshold=threshold,
        batch=batch_size,
        overwrite=overwrite,
        asked=_asked(
            prompts=prompts,
            negatives=negatives,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
        ),
    )
    if format == "wen":
        export_wen(out)
    _show(out, summary["failed"])


@app.command()
def generate(
    model: Model,
    prompts: Prompts,
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 4,
    references: Annotated[Path | None, typer.Option(help="Folder of training images to compare with.")] = None,
    column: Column = None,
    limit: Limit = None,
    num_inference_steps: Steps = 50,
    guidance_scale: Guidance = 7.5,
    seed: Seed = 0,
    batch_size: Batch = "auto",
    unet: Unet = None,
    lora: Lora = None,
    scheduler: Scheduler = "own",
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    config: ConfigOption = None,
) -> None:
    """Draw images for prompts, the same seeds for each."""
    from mnemoscope.generation import Generation, run_generation
    from mnemoscope.references import read_references

    loaded = _model(model, unet, lora, scheduler, device, dtype)
    summary = run_generation(
        loaded,
        _prompts(loaded, prompts, column, limit, seed),
        out,
        Generation(images, seed, num_inference_steps, guidance_scale),
        references=read_references(references) if references else None,
        batch=batch_size,
        overwrite=overwrite,
        asked=_asked(
            prompts=prompts,
            references=references,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
        ),
    )
    _show(out, summary["failed"])


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Results of another code.")],
    out: Out,
    negatives: Annotated[Path | None, typer.Option(help="Results on ordinary prompts, in the same format.")] = None,
    format: Annotated[str, typer.Option(help="wen: JSONL of Wen et al.'s detect_mem.py.")] = "wen",
    first_step: Annotated[int, typer.Option(min=0, help="First step that counts.")] = 0,
    end_step: Annotated[int | None, typer.Option(min=1, help="Step before which to stop; all if not given.")] = None,
    fpr: Fpr = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Make a run of another code's results, with its calibration and report."""
    from mnemoscope.detection import import_detection
    from mnemoscope.settings import one_of

    one_of("--format", format, ("wen",))
    summary = import_detection(
        file, out, negatives=negatives, steps=(first_step, end_step), fpr=fpr, overwrite=overwrite
    )
    _show(out, summary["failed"])


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; several detections are compared.")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; by default in the first run.")] = None,
) -> None:
    """Write one HTML page about one or more runs."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.terminal import print_run

    page = write(runs, out)
    for run in runs:
        print_run(run, Console())
    typer.echo(page)


@app.command("list")
def list_() -> None:
    """Show every method with its parameters, its cost and the paper that it comes from."""
    from rich.console import Console

    from mnemoscope.listing import methods_table

    Console().print(methods_table())


def _guarded(run: Callable[[], Any]) -> int:
    """Exit code of a command: 2 with one sentence for what the user can mend, 130 when interrupted."""
    try:
        run()
    except UsageError as e:
        typer.echo(f"mnemoscope: {e}", err=True)
        return 2
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        typer.echo(f"mnemoscope: {e.strerror or e}{where}; mend that and give the same command to go on.", err=True)
        return 2
    except SystemExit as e:
        if e.code == 130:
            typer.echo("mnemoscope: interrupted; the same command goes on where it was.", err=True)
        return int(e.code or 0)
    return 0


def main() -> None:
    """Entry point of the `mnemoscope` command."""
    sys.exit(_guarded(app))


if __name__ == "__main__":
    main()
