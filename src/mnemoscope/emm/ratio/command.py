"""From the names of sources to a run that measures how much was copied."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.generation.drawing import NetworkImages
from mnemoscope.emm.ratio.drawn_sets import drawn_sets
from mnemoscope.emm.ratio.generated_sets import GeneratedSet, content, held_sets
from mnemoscope.emm.ratio.options import AskedRatio, RatioOptions, SnapshotDrawing
from mnemoscope.emm.ratio.run import Known, run_ratio
from mnemoscope.emm.sampling.crew import crew
from mnemoscope.emm.training.sources import is_network, is_training
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.model.device import pick_device, settle_threads
from mnemoscope.run.reading import Json
from mnemoscope.run.settings import Settings


def measure_ratio(
    asked: AskedRatio,
    out: Path,
    options: RatioOptions,
    drawing: SnapshotDrawing,
    *,
    preset: str | None = None,
    weights: str | None = None,
    overwrite: bool = False,
) -> Json:
    """Read or draw the generated images, compare them with the references, and return the summary of the run.

    Raises `UsageError` for sources and features that cannot be read or do not fit together.
    """
    settle_threads()
    drawing = replace(drawing, device=str(pick_device(drawing.device)))
    references = read_images(_references(asked), resolution=asked.resolution)
    by = None
    if options.features != "pixels":
        by = descriptor(options.features, preset=preset, weights=weights, device=drawing.device)
    elif preset or weights:
        raise UsageError("Pixels have no --preset and no --weights; leave them out, or give --features.")
    with _sets(asked, drawing) as (sets, record):
        if not sets:
            return {}
        known = Known(references, _read(asked.held_out, asked), _read(asked.pool, asked))
        record |= asdict(asked) | {"preset": preset, "weights": weights}
        return run_ratio(sets, known, out, options, descriptor=by, overwrite=overwrite, record=record)


@contextmanager
def _sets(asked: AskedRatio, drawing: SnapshotDrawing) -> Iterator[tuple[list[GeneratedSet], Settings]]:
    """What is scored, and what of it belongs to the settings of the run; on all processes but the first nothing."""
    if not is_network(asked.generated):
        sets = held_sets(asked.generated, snapshots=asked.snapshots, resolution=asked.resolution, limit=asked.limit)
        yield sets, {"content": content(asked.generated)}
        return
    if asked.limit is not None or asked.snapshots:
        raise UsageError(f"{asked.generated} is a network, of which --samples says how many images are drawn.")

    def drawer(device: str) -> NetworkImages:
        return NetworkImages(drawing.weights, drawing.sampling, drawing.label, drawing.batch_size, device)

    with crew(drawer, drawing.device) as together:
        if together.is_first:
            yield drawn_sets(asked.generated, drawing, together), drawing.record()
        else:
            together.serve()
            yield [], {}


def _read(source: str | None, asked: AskedRatio) -> Images | None:
    return None if source is None else read_images(source, resolution=asked.resolution)


def _references(asked: AskedRatio) -> str:
    """The training images: those of the training that is scored, unless others are given."""
    if asked.references is None and not is_training(asked.generated):
        raise UsageError("No --references were given; give the training images.")
    return asked.references or asked.generated
