"""What `emm optimum` is given as text, checked and run."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from mnemoscope.emm.optimum.options import Sampling, Subset, read_seeds
from mnemoscope.emm.optimum.run import run_optimum
from mnemoscope.errors import UsageError
from mnemoscope.model.loading import pick_device
from mnemoscope.run.settings import one_of

KINDS = {
    "solver": ("euler", "heun"),
    "discretization": ("vp", "ve", "iddpm", "edm"),
    "schedule": ("vp", "ve", "linear"),
    "scaling": ("vp", "none"),
    "runner": ("local", "ray"),
}
RUN = ("label", "batch_size", "gallery", "runner", "gpus", "overwrite")


def draw_optimum(given: Mapping[str, Any]) -> dict[str, Any]:
    """Draw what the options ask for; the summary. Raises `UsageError` for what cannot be."""
    for name, known in KINDS.items():
        if given[name] is not None:
            one_of(f"--{name}", given[name], known)
    if given["images"] is not None and given["seeds"] is not None:
        raise UsageError("Both --images and --seeds were given; --images 64 is --seeds 0-63, so give one of them.")
    seeds = list(range(given["images"] or 64)) if given["seeds"] is None else read_seeds(given["seeds"])
    subset = Subset(**{field.name: given[field.name] for field in fields(Subset)})
    sampling = Sampling(**{field.name: given[field.name] for field in fields(Sampling)})
    device = str(pick_device(given["device"]))
    images, own = subset.images(), {name: given[name] for name in RUN}
    return run_optimum(images, given["out"], seeds, sampling, device=device, record=asdict(subset), **own)
