"""The commands that score prompts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.cli.settings_file import NAMES
from mnemoscope.errors import UsageError
from mnemoscope.registry import Parameters

Detectors = Annotated[
    list[str],
    opt.of(
        opt.METHOD,
        "Detection method; see mnemoscope list detect. Repeat it for several in one pass.",
        autocompletion=opt.methods("score", "detect"),
        metavar=NAMES,
    ),
]
NOISE_NORM, SEQUENTIAL = ["noise_norm"], "sequential"


def one_method(methods: list[str]) -> str:
    """The method of a command that takes a single one; raises `UsageError` for several."""
    if len(methods) > 1:
        given = " and ".join(methods)
        raise UsageError(f"An audit flags by one method, and {given} were given; give one, and detect by all of them.")
    return methods[0]


def within(budget: float | None, methods: list[str], given: Parameters) -> tuple[list[str], Parameters]:
    """The methods and parameters of a detection that a budget is given to: one method, looked at seed by seed."""
    if budget is None:
        return methods, given
    if len(methods) > 1:
        raise UsageError(f"A budget is one method's, and {' and '.join(methods)} were given; give one.")
    base = {} if methods == [SEQUENTIAL] else {"score": methods[0]}
    return [SEQUENTIAL], {**base, **given, "budget": budget}


@command(app, spreads=True)
def detect(
    model: opt.Model,
    prompts: opt.TestedPrompts,
    sampling: opt.SamplingOptions,
    out: opt.Out,
    method: Detectors = NOISE_NORM,
    param: opt.Param = None,
    seeds: opt.Seeds = 1,
    threshold: opt.Flagging = None,
    fpr: opt.Fpr = 0.01,
    batch_size: opt.Batch = "auto",
    budget: Annotated[
        float | None,
        opt.of(opt.METHOD, "Evaluations of a prompt, on average: further seeds only near the threshold.", min=1.0),
    ] = None,
    format: Annotated[str, opt.of(opt.RUN, "mnemoscope, or wen to write wen.jsonl as well.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Score prompts by how much the model seems to have memorized of them, by one method or by several in one pass."""
    from mnemoscope.detection.formats import export_wen
    from mnemoscope.detection.run import run_detection
    from mnemoscope.detection.scoring import detections
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "wen"))
    if format == "wen" and (method != ["noise_norm"] or budget is not None):
        left = f"--method {' and '.join(method)}" if budget is None else "--budget"
        raise UsageError(f"--format wen holds noise_norm; leave out {left} or the format.")
    drawn: dict[str, Any] = {"seed": sampling.seed, "seeds": seeds, **sampling.settings}
    method, given = within(budget, method, parameters(param))
    asked = detections(method, given, **drawn, companions=("uncond_norm",) if format == "wen" else ())
    loaded = model.load()
    summary = run_detection(
        loaded,
        prompts.read(loaded, sampling.seed),
        out,
        asked,
        negatives=prompts.read_negatives(loaded, sampling.seed),
        fpr=fpr,
        threshold=threshold,
        batch=batch_size,
        overwrite=overwrite,
    )
    if format == "wen":
        export_wen(out)
    opt.show(out, summary["failed"])


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="Results of another code.")],
    out: opt.Out,
    negatives: Annotated[Path | None, opt.of(opt.INPUT, "Results on ordinary prompts, in the same format.")] = None,
    format: Annotated[
        str,
        opt.of(
            opt.INPUT,
            "wen: JSONL of detect_mem.py; layer6: JSON of words or rewrites; nemo: CSV of neurons.",
        ),
    ] = "wen",
    prompts: Annotated[
        str | None, opt.of(opt.INPUT, "Of nemo: the prompt file that the table was made of, which knows each kind.")
    ] = None,
    first_step: Annotated[int, opt.of(opt.INPUT, "First step that counts.", min=0)] = 0,
    end_step: Annotated[int | None, opt.of(opt.INPUT, "Step before which to stop; all if none.", min=1)] = None,
    fpr: opt.Fpr = 0.01,
    overwrite: opt.Overwrite = False,
) -> None:
    """Make a run of another code's results, with its calibration and report."""
    from mnemoscope.detection.run import import_detection
    from mnemoscope.explanation.run import import_explanation
    from mnemoscope.localization.run import import_localization
    from mnemoscope.prompts.prompt import read_prompts
    from mnemoscope.rewriting.perturbations import import_rewriting, is_perturbations
    from mnemoscope.run.settings import one_of

    if one_of("--format", format, ("wen", "layer6", "nemo")) != "wen" and (negatives or first_step or end_step):
        raise UsageError(f"--format {format} has no negatives and no steps; leave those options out.")
    if prompts is not None and format != "nemo":
        raise UsageError(f"--prompts says the kinds of NeMo's prompts, and --format is {format}; leave it out.")
    if format == "nemo":
        listed = read_prompts(prompts) if prompts is not None else ()
        summary = import_localization(file, out, prompts=listed, overwrite=overwrite)
    elif format == "layer6":
        made = import_rewriting if is_perturbations(file) else import_explanation
        summary = made(file, out, overwrite=overwrite)
    else:
        steps = (first_step, end_step)
        summary = import_detection(file, out, negatives=negatives, steps=steps, fpr=fpr, overwrite=overwrite)
    opt.show(out, summary["failed"])
