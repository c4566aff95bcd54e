"""A run that draws images from a trained network, one for each seed."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jaxtyping import Int, UInt8
from numpy import ndarray

from mnemoscope.emm.data.images import picture
from mnemoscope.emm.generation.drawing import NetworkImages
from mnemoscope.emm.generation.options import Drawing
from mnemoscope.emm.sampling.crew import Crew, crew
from mnemoscope.emm.sampling.options import Sampling, asked_seeds, written
from mnemoscope.emm.training.sources import Weights, fingerprint
from mnemoscope.errors import UsageError
from mnemoscope.model.loading import pick_device
from mnemoscope.run.emm_rows import EmmImageRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.threads import computing_with, recorded_threads
from mnemoscope.run.writing import whole

FOLDER = "images"


def draw_images(
    source: str,
    out: Path | str,
    drawing: Drawing | None = None,
    sampling: Sampling | None = None,
    weights: Weights | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
) -> Json:
    """Draw an image for each seed from a training's network or a file of weights; the summary of the run.

    Each image has a generator of its own: neither batches nor the number of processes change it, up to the rounding of
    the network. An interrupted run goes on behind the last images that it wrote. Empty on all processes but the first.
    Raises `UsageError` for a source that is no network, and for a label or options that it does not have.
    """
    drawing, sampling, weights = drawing or Drawing(), sampling or Sampling(), weights or Weights()
    if drawing.batch_size < 1:
        raise UsageError(f"--batch-size {drawing.batch_size} was given; give at least 1.")
    seeds = asked_seeds(drawing.images, drawing.seeds)
    if not seeds:
        raise UsageError("There is no seed to draw from; give --images above 0, or --seeds.")

    def drawer(device: str) -> NetworkImages:
        return NetworkImages(weights, sampling, drawing.label, drawing.batch_size, device)

    with crew(drawer, str(pick_device(device))) as together:
        if not together.is_first:
            together.serve()
            return {}
        network = together.draw.network((source, drawing.snapshot))  # type: ignore[attr-defined]
        record = {"network": source, "seeds": written(seeds), "label": drawing.label, "snapshot": drawing.snapshot}
        record |= asdict(sampling) | asdict(weights) | {"weights_sha256": fingerprint(network)}
        with (
            Run(out, "emm-generate", record, overwrite=overwrite) as run,
            computing_with(recorded_threads(run.folder)),
        ):
            return _drawn(run, together, (source, drawing.snapshot), seeds, drawing.batch_size)


def _drawn(run: Run, together: Crew, source: tuple[str, str | int], seeds: Sequence[int], batch_size: int) -> Json:
    todo = [seed for seed in sorted(seeds) if f"{seed:06d}" not in run.done]
    size = batch_size * together.processes
    with Progress(transient=True) as progress:
        for start in progress.track(range(0, len(todo), size), description="images"):
            part, began = todo[start : start + size], time.monotonic()
            share = together(source, part)
            rows = save(run.folder, part, share.pixels, share.labels)
            run.append(rows, evaluations=share.evaluations, seconds=time.monotonic() - began)
    return run.finish(images=len(seeds), processes=together.processes)


def save(
    folder: Path, seeds: Sequence[int], pixels: UInt8[ndarray, "B C H W"], labels: Int[ndarray, " B"] | None
) -> list[EmmImageRow]:
    """Write images by their seeds, whole or not at all, and give a row for each."""
    rows: list[EmmImageRow] = []
    for place, seed in enumerate(seeds):
        file = folder / FOLDER / f"{seed:06d}.png"
        with whole(file) as partial:
            picture(pixels[place]).save(partial, format="PNG")
        label = None if labels is None else int(labels[place])
        rows.append({"id": file.stem, "status": "ok", "seed": seed, "file": f"{FOLDER}/{file.name}", "label": label})
    return rows
