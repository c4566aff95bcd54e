"""The commands that look for neurons."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app

DEFAULT = "prompts"
Layers = Annotated[str, typer.Option(help="seven for the down and mid blocks, as NeMo does, or all.")]


class Localize(TyperGroup):
    """Commands of which one is meant where the first word names none: `localize MODEL` is `localize prompts MODEL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if own else [DEFAULT, *args])


localize = typer.Typer(
    cls=Localize,
    no_args_is_help=True,
    help="Find the neurons that hold what is memorized: mnemoscope localize MODEL --prompts P --out DIR.",
    epilog="Without one of these commands it is `prompts`.",
)
app.add_typer(localize, name="localize")


@localize.command(DEFAULT)
def prompts_(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    negatives: opt.Negatives = None,
    method: Annotated[str, typer.Option(help="Localization method; see mnemoscope list.")] = "neurons",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    statistics: Annotated[Path | None, typer.Option(help="Of usual activations: ours, or NeMo's .pt.")] = None,
    threshold: Annotated[str | None, typer.Option(help="A run of localize threshold, or a number.")] = None,
    layers: Annotated[str | None, typer.Option(help="seven (down and mid blocks), or all.")] = None,
    dedup: Annotated[bool, typer.Option("--dedup", help="Look at each text once.")] = False,
    column: opt.Column = None,
    limit: opt.Limit = None,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    unet: opt.Unet = None,
    lora: opt.Lora = None,
    scheduler: opt.Scheduler = "own",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    format: Annotated[str, typer.Option(help="mnemoscope, or nemo to write nemo.csv as well.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Find the neurons that each prompt's memorization needs. The command that is meant where none is named."""
    from mnemoscope import registry
    from mnemoscope.localization.run import Localization, run_localization
    from mnemoscope.localization.tables import export_nemo
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "nemo"))
    given: dict[str, Any] = {"statistics": statistics, "threshold": _number(threshold), "layers": layers}
    given |= {"seed": seed} if seed and "seed" in registry.get("localize", method).parameters else {}
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_localization(
        loaded,
        opt.load_prompts(loaded, prompts, column, limit, seed),
        out,
        Localization(method, {**parameters(param), **{k: v for k, v in given.items() if v is not None}}),
        negatives=opt.load_prompts(loaded, negatives, column, None, seed) if negatives else (),
        dedup=dedup,
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(
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
    if format == "nemo":
        export_nemo(out)
    opt.show(out, summary["failed"])


def _number(text: str | None) -> float | Path | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return Path(text or "")


@localize.command("statistics")
def statistics_(
    model: opt.Model,
    prompts: opt.Prompts,
    out: Annotated[Path, typer.Option(help="A .safetensors file, or a folder for statistics.safetensors.")],
    layers: Layers = "seven",
    column: opt.Column = None,
    limit: opt.Limit = None,
    seed: opt.Seed = 0,
    unet: opt.Unet = None,
    lora: opt.Lora = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compute how strongly each neuron answers usual prompts; no network evaluation."""
    from mnemoscope.localization.calibration import run_statistics
    from mnemoscope.run.settings import one_of

    one_of("--layers", layers, ("seven", "all"))
    loaded = opt.load_model(model, unet, lora, "own", device, dtype)
    listed = opt.load_prompts(loaded, prompts, column, limit, seed)
    found = run_statistics(loaded, listed, out, layers, overwrite=overwrite)  # type: ignore[arg-type]
    neurons = sum(map(len, found.mean.values()))
    typer.echo(f"Mean and deviation of {neurons:,} neurons in {len(found.mean)} layers over {found.count:,} prompts.")


@localize.command("threshold")
def threshold_(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    param: Annotated[list[str] | None, typer.Option(help="seeds, guidance_scale, ... as for localize.")] = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    num_inference_steps: opt.Steps = 50,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    unet: opt.Unet = None,
    lora: opt.Lora = None,
    scheduler: opt.Scheduler = "own",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compute how alike the seeds of prompts are that are not memorized, and the threshold that this makes."""
    from mnemoscope.localization.calibration import run_threshold, setting_of
    from mnemoscope.run.settings import parameters

    given = {"seed": seed, "num_inference_steps": num_inference_steps, **parameters(param)}
    setting = setting_of(given)
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    listed = opt.load_prompts(loaded, prompts, column, limit, seed)
    asked = opt.asked_for(prompts=prompts, column=column, limit=limit, unet=unet, lora=lora, scheduler=scheduler)
    found = run_threshold(loaded, listed, out, setting, batch=batch_size, overwrite=overwrite, asked=asked)
    typer.echo(
        f"Threshold {found['threshold']:.3f}, "
        f"the mean {found['mean']:.3f} (standard error {found['standard_error']:.3f}) "
        f"and one deviation {found['sd']:.3f} of all pairs of seeds of {found['prompts']:,} prompts."
    )
    typer.echo(
        f"Over each prompt's greatest instead: {found['threshold_of_maxima']:.3f}. Compared by {found['similarity']}."
    )
    if found["failed"]:
        raise typer.Exit(1)
