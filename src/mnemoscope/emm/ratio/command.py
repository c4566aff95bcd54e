"""From the names of sources to a run that measures how much was copied."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.ratio.drawn_sets import Drawing, drawn_sets, is_training
from mnemoscope.emm.ratio.generated_sets import Generated, content, held_sets
from mnemoscope.emm.ratio.run import Known, RatioOptions, run_ratio
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.model.loading import pick_device, settle_threads


@dataclass(frozen=True)
class Asked:
    """The sources that are compared, by their names, and how they are read."""

    generated: str
    references: str | None = None
    held_out: str | None = None
    pool: str | None = None
    resolution: int | None = None
    limit: int | None = None
    snapshots: bool = False


def measure_ratio(
    asked: Asked,
    out: Path,
    options: RatioOptions,
    drawing: Drawing,
    *,
    preset: str | None = None,
    weights: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read or draw the generated images, compare them with the references, and return the summary of the run.

    Raises `UsageError` for sources and features that cannot be read or do not fit together.
    """
    settle_threads()
    drawing = replace(drawing, device=str(pick_device(drawing.device)))
    sets, record = _sets(asked, drawing)
    by = None
    if options.features != "pixels":
        by = descriptor(options.features, preset=preset, weights=weights, device=drawing.device)
    elif preset or weights:
        raise UsageError("Pixels have no --preset and no --weights; leave them out, or give --features.")
    references = read_images(_references(asked), resolution=asked.resolution)
    known = Known(references, _read(asked.held_out, asked), _read(asked.pool, asked))
    record |= asdict(asked) | {"preset": preset, "weights": weights}
    return run_ratio(sets, known, out, options, descriptor=by, overwrite=overwrite, record=record)


def _sets(asked: Asked, drawing: Drawing) -> tuple[list[Generated], dict[str, Any]]:
    """What is scored, and what of it belongs to the settings of the run."""
    if not is_training(asked.generated):
        sets = held_sets(asked.generated, snapshots=asked.snapshots, resolution=asked.resolution, limit=asked.limit)
        return sets, {"content": content(asked.generated)}
    if asked.limit is not None or asked.snapshots:
        raise UsageError(f"{asked.generated} is a run of emm train, of which --samples says how many are drawn.")
    free = ("batch_size", "device")
    return drawn_sets(asked.generated, drawing), {k: v for k, v in asdict(drawing).items() if k not in free}


def _read(source: str | None, asked: Asked) -> Images | None:
    return None if source is None else read_images(source, resolution=asked.resolution)


def _references(asked: Asked) -> str:
    """The training images: those of the training that is scored, unless others are given."""
    if asked.references is None and not is_training(asked.generated):
        raise UsageError("No --references were given; give the training images.")
    return asked.references or asked.generated
