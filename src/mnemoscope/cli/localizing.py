"""The commands that look for neurons."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import group
from mnemoscope.cli.command import command
from mnemoscope.cli.helping import CommandGroup, write_commands, write_options
from mnemoscope.errors import UsageError

DEFAULT = "prompts"
LAYERS = "seven for the down and mid blocks, as NeMo does, or all."


class Localize(CommandGroup):
    """Commands of which one is meant where the first word names none: `localize MODEL` is `localize prompts MODEL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_plain = not args or args[0] in self.commands or args[0] in ("-h", "--help")
        return super().parse_args(ctx, args if is_plain else [DEFAULT, *args])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options of the command that is meant, then the commands."""
        write_options(self.commands[DEFAULT], ctx, formatter)
        write_commands(self, ctx, formatter)


localize = group(
    "localize",
    "Find the neurons that hold what is memorized: mnemoscope localize MODEL --prompts P --out DIR.",
    cls=Localize,
    epilog="Without one of these commands it is `prompts`, whose options are shown here.",
)


@command(localize, DEFAULT, spreads=True)
def prompts_(
    model: opt.Model,
    prompts: opt.TestedPrompts,
    out: opt.Out,
    method: Annotated[
        str,
        opt.of(opt.METHOD, "How to localize; see mnemoscope list localize.", autocompletion=opt.methods("localize")),
    ] = "neurons",
    param: opt.Param = None,
    statistics: Annotated[Path | None, opt.of(opt.METHOD, "Of usual activations: ours, or NeMo's .pt.")] = None,
    threshold: Annotated[str | None, opt.of(opt.METHOD, "A run of localize threshold, or a number.")] = None,
    layers: Annotated[str | None, opt.of(opt.METHOD, LAYERS)] = None,
    dedup: Annotated[bool, opt.of(opt.INPUT, "Look at each text once.", "--dedup")] = False,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    format: Annotated[str, opt.of(opt.RUN, "mnemoscope, or nemo to write nemo.csv as well.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Find the neurons that each prompt's memorization needs. The command that is meant where none is named."""
    from mnemoscope import registry
    from mnemoscope.localization.run import Localization, run_localization
    from mnemoscope.localization.tables import export_nemo
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "nemo"))
    given: dict[str, Any] = {"statistics": statistics, "threshold": _number(threshold), "layers": layers}
    given |= {"seed": seed} if seed and "seed" in registry.get("localize", method).parameters else {}
    loaded = model.load()
    summary = run_localization(
        loaded,
        prompts.read(loaded, seed),
        out,
        Localization(method, {**parameters(param), **{k: v for k, v in given.items() if v is not None}}),
        negatives=prompts.read_negatives(loaded, seed),
        dedup=dedup,
        batch=batch_size,
        overwrite=overwrite,
    )
    if format == "nemo":
        export_nemo(out)
    opt.show(out, summary["failed"])


def _unseeded(prompts: opt.PromptOptions) -> opt.PromptOptions:
    if prompts.seed_column is not None:
        raise UsageError("What is usual is measured from the same seeds for all prompts; leave out --seed-column.")
    return prompts


def _number(text: str | None) -> float | Path | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return Path(text or "")


@command(localize, "statistics")
def statistics_(
    model: opt.Model,
    prompts: opt.PromptOptions,
    out: Annotated[Path, opt.of(opt.RUN, "A .safetensors file, or a folder for statistics.safetensors.")],
    layers: Annotated[str, opt.of(opt.METHOD, LAYERS)] = "seven",
    no_statistics: Annotated[
        bool, opt.of(opt.RUN, "Keep each prompt's activations in place of statistics.", "--no-statistics")
    ] = False,
    seed: opt.Seed = 0,
    format: Annotated[str, opt.of(opt.RUN, "mnemoscope, or nemo to write NeMo's .pt as well.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compute how strongly each neuron answers usual prompts; no network evaluation."""
    from mnemoscope.localization.calibration import run_activations, run_statistics
    from mnemoscope.run.settings import one_of

    one_of("--layers", layers, ("seven", "all"))
    nemo = one_of("--format", format, ("mnemoscope", "nemo")) == "nemo"
    loaded = model.load()
    listed = _unseeded(prompts).read(loaded, seed)
    if no_statistics:
        count, neurons = run_activations(loaded, listed, out, layers, nemo=nemo, overwrite=overwrite)  # type: ignore[arg-type]
        typer.echo(f"Activations of {neurons:,} neurons for each of {count:,} prompts.")
        return
    summary = run_statistics(loaded, listed, out, layers, nemo=nemo, overwrite=overwrite)  # type: ignore[arg-type]
    neurons = sum(map(len, summary.mean.values()))
    typer.echo(
        f"Mean and deviation of {neurons:,} neurons in {len(summary.mean)} layers over {summary.count:,} prompts."
    )


@command(localize, "threshold", spreads=True)
def threshold_(
    model: opt.Model,
    prompts: opt.PromptOptions,
    out: opt.Out,
    param: opt.Param = None,
    num_inference_steps: opt.Steps = 50,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compute how alike the seeds of prompts are that are not memorized, and the threshold that this makes."""
    from mnemoscope.localization.calibration import run_threshold, setting_of
    from mnemoscope.run.settings import parameters

    given = {"seed": seed, "num_inference_steps": num_inference_steps, **parameters(param)}
    setting = setting_of(given)
    loaded = model.load()
    listed = _unseeded(prompts).read(loaded, seed)
    summary = run_threshold(loaded, listed, out, setting, batch=batch_size, overwrite=overwrite)
    typer.echo(
        f"Threshold {summary['threshold']:.3f}, "
        f"the mean {summary['mean']:.3f} (standard error {summary['standard_error']:.3f}) "
        f"and one deviation {summary['sd']:.3f} of all pairs of seeds of {summary['prompts']:,} prompts."
    )
    typer.echo(
        f"Over each prompt's greatest instead: {summary['threshold_of_maxima']:.3f}. "
        f"Compared by {summary['similarity']}."
    )
    if summary["failed"]:
        raise typer.Exit(1)
