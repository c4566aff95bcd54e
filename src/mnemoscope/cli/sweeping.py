"""The command that compares mitigations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.sweep.curves import SweepPoint


@dataclass(frozen=True, kw_only=True)
class SweptMitigations:
    """Mitigations, and the strengths at which they are tried."""

    PANEL: ClassVar = opt.METHOD
    mitigate: opt.Mitigate = None
    param: opt.Param = None
    strength: Annotated[
        list[str] | None,
        opt.of(opt.METHOD, "Strengths to try: 1,2,4, or of one of several mitigations MITIGATION=1,2,4. Repeat it."),
    ] = None
    threshold: opt.Threshold = None

    def points(self) -> "list[SweepPoint]":
        """Every point that is tried, checked; without a mitigation all that need no further parameter."""
        from mnemoscope import registry
        from mnemoscope.mitigation.chosen import chosen
        from mnemoscope.run.settings import parameters
        from mnemoscope.sweep.curves import points

        given, every = parameters(self.param), [*registry.names("mitigate"), *registry.names("caption")]
        said = {key.rpartition(".")[2] for key in given}
        names = self.mitigate or [name for name in every if not registry.missing(registry.stopping(name), said)]
        return points(chosen(names, given), strengths_of(self.strength or [], names))


@command(app, spreads=True)
def sweep(
    model: opt.Model,
    prompts: opt.PromptOptions,
    sampling: opt.SamplingOptions,
    references: Annotated[str, opt.of(opt.COMPARISON, "Training images with captions, from any source.")],
    features: opt.PixelFeatures,
    mitigations: SweptMitigations,
    out: opt.Out,
    captions: opt.ReferenceCaptions = None,
    images: opt.Images = 1,
    alignment: opt.Alignment = None,
    replication_threshold: Annotated[
        float | None, opt.of(opt.COMPARISON, "Similarity from which an image is a copy; the features' own if none.")
    ] = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Draw the same images under mitigations of growing strength, and show what each takes and costs."""
    from mnemoscope.features.alignment import aligner
    from mnemoscope.features.references import read_references
    from mnemoscope.generation.run import Generation
    from mnemoscope.mitigation.chosen import readable
    from mnemoscope.sweep.fitting import fitting
    from mnemoscope.sweep.run import run_sweep

    tried, threshold = mitigations.points(), readable(mitigations.threshold)
    generation = Generation(images=images, seed=sampling.seed, threshold=threshold, **sampling.settings)
    compared = read_references(references, captions=captions, descriptor=features.descriptor(model.device))
    loaded = model.load()
    texts = prompts.read(loaded, sampling.seed)
    fit, left_out = (tried, []) if mitigations.mitigate else fitting(loaded, tried, texts, generation)
    summary = run_sweep(
        loaded,
        texts,
        out,
        generation,
        fit,
        compared,
        alignment=aligner(alignment, model.device) if alignment else None,
        replication_threshold=replication_threshold,
        notes=left_out,
        batch=batch_size,
        overwrite=overwrite,
    )
    opt.show(out, summary["failed"])


def strengths_of(texts: Sequence[str], names: Sequence[str]) -> dict[str, list[Any]]:
    """Strengths to try by mitigation, from texts like `1,2` or `embedding_descent=1,2`.

    Raises `UsageError` for strengths of a mitigation that is not tried, and where it is not said whose they are.
    """
    from mnemoscope import registry
    from mnemoscope.run.yaml_values import yaml_value

    tried = [name for name in names if registry.stopping(name).strength is not None]
    strengths: dict[str, list[Any]] = {}
    for text in texts:
        whose, equals, listed = text.rpartition("=")
        if not equals and len(tried) != 1:
            raise UsageError(f"--strength {text} does not say whose it is; write MITIGATION={text} for one of several.")
        if equals and whose not in tried:
            raise UsageError(f"--strength {text}: {whose} is not tried, or has no strength; give --mitigate {whose}.")
        try:
            strengths.setdefault(whose or tried[0], []).extend(yaml_value(f"[{listed}]", "--strength"))
        except UsageError:
            raise UsageError(f"--strength {text} has no readable values; write for instance 1,2,4.") from None
    return strengths
