"""The commands that draw images."""

from typing import Annotated

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.errors import UsageError


@command(app, spreads=True)
def generate(
    model: opt.Model,
    prompts: opt.PromptOptions,
    sampling: opt.SamplingOptions,
    out: opt.Out,
    images: opt.Images = 4,
    mitigate: opt.Mitigate = None,
    param: opt.Param = None,
    threshold: opt.Threshold = None,
    baseline: Annotated[bool, opt.of(opt.METHOD, "Draw each image without mitigation as well.", "--baseline")] = False,
    references: opt.References = None,
    captions: opt.ReferenceCaptions = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Draw images for prompts, the same seeds for each, as they are or mitigated."""
    from mnemoscope.features.references import read_references
    from mnemoscope.generation.run import Generation, run_generation
    from mnemoscope.mitigation.chosen import chosen, readable
    from mnemoscope.run.settings import parameters

    if not mitigate and (threshold is not None or baseline):
        raise UsageError("--threshold and --baseline say how to mitigate; give --mitigate NAME with them.")
    mitigations = tuple(chosen(mitigate or [], parameters(param)))
    limit_score = readable(threshold)
    loaded = model.load()
    summary = run_generation(
        loaded,
        prompts.read(loaded, sampling.seed),
        out,
        Generation(
            images=images,
            seed=sampling.seed,
            mitigations=mitigations,
            threshold=limit_score,
            baseline=baseline,
            **sampling.settings,
        ),
        references=read_references(references, captions=captions) if references else None,
        batch=batch_size,
        overwrite=overwrite,
    )
    opt.show(out, summary["failed"])
