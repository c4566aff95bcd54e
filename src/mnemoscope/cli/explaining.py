"""The command that explains scores."""

from typing import Annotated

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app, spreads=True)
def explain(
    model: opt.Model,
    prompts: opt.PromptOptions,
    sampling: opt.SamplingOptions,
    out: opt.Out,
    method: Annotated[
        str,
        opt.of(opt.METHOD, "Explanation method; see mnemoscope list explain.", autocompletion=opt.methods("explain")),
    ] = "token_gradients",
    param: opt.Param = None,
    seeds: opt.Seeds = 1,
    masks: Annotated[str | None, opt.of(opt.COMPARISON, "True regions: a folder of PNG masks, or demo.")] = None,
    batch_size: opt.Batch = "auto",
    format: Annotated[str, opt.of(opt.RUN, "mnemoscope, or layer6 for attributions.json too.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Say which words of each prompt a score depends on, or which regions of its images are memorized."""
    from mnemoscope import registry
    from mnemoscope.errors import UsageError
    from mnemoscope.explanation.attributions import export_layer6
    from mnemoscope.explanation.masks import read_masks
    from mnemoscope.explanation.run import Explanation, run_explanation
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "layer6"))
    if format == "layer6" and registry.get("explain", method).gives == "regions":
        raise UsageError(f"layer6's format holds words, and {method} gives regions; leave out --format.")
    loaded = model.load()
    listed = prompts.read(loaded, sampling.seed)
    summary = run_explanation(
        loaded,
        listed,
        out,
        Explanation(method, parameters(param), sampling.seed, seeds, **sampling.settings),
        batch=batch_size,
        overwrite=overwrite,
        masks=None if masks is None else read_masks(masks, listed),
    )
    if format == "layer6":
        export_layer6(out)
    opt.show(out, summary["failed"])
