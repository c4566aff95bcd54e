"""The command that trains or fine-tunes a model on images with captions."""

from typing import TYPE_CHECKING, Annotated, Any

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.options import ObjectiveOptions, TrainOptions
from mnemoscope.training.watching.options import ProbeOptions

if TYPE_CHECKING:
    from mnemoscope.training.watching.probes import Probes


@command(app)
def train(
    model: opt.ModelName,
    data: DataOptions,
    objective: ObjectiveOptions,
    options: TrainOptions,
    watching: ProbeOptions,
    out: opt.Out,
    unet: opt.Unet = None,
    text_encoder: opt.TextEncoder = None,
    variant: opt.Variant = None,
    overwrite: Annotated[bool, opt.of(opt.RUN, "Start anew.", "--overwrite")] = False,
) -> None:
    """Train or fine-tune a model, with duplication, captions and filters as asked, and watch it memorize."""
    from mnemoscope.model.loading import open_model
    from mnemoscope.training.data.batches import training_set
    from mnemoscope.training.loop import train as train_on

    opt.prepare()
    opened = open_model(model, unet=unet, text_encoder=text_encoder, variant=variant, device="cpu", dtype="float32")
    opt.warn(opened.warnings)
    pipe, dataset = opened.pipe, training_set(opened.pipe, data)
    how: dict[str, Any] = {"callbacks": _probes(dataset, watching), "source": model, "overwrite": overwrite}
    how["warnings"] = opened.warnings
    if train_on(pipe, dataset, out, options, objective, asked=vars(watching), **how):  # on the first process
        opt.show(out, 0)


def _probes(dataset: Any, options: Any) -> "list[Probes]":
    from mnemoscope.training.watching.probes import Probes, probes_of

    return [Probes(probes_of(dataset, options), options)] if options.probe_every else []
