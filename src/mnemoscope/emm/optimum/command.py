"""What `emm optimum` is given as text, checked and run."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from mnemoscope.emm.optimum.options import Subset
from mnemoscope.emm.optimum.run import run_optimum
from mnemoscope.emm.sampling.options import Sampling, asked_seeds
from mnemoscope.model.loading import pick_device
from mnemoscope.run.settings import one_of

RUN = ("label", "batch_size", "gallery", "runner", "gpus", "overwrite")


def draw_optimum(given: Mapping[str, Any]) -> dict[str, Any]:
    """Draw what the options ask for; the summary. Raises `UsageError` for what cannot be."""
    one_of("--runner", given["runner"], ("local", "ray"))
    seeds = asked_seeds(given["images"], given["seeds"])
    subset = Subset(**{field.name: given[field.name] for field in fields(Subset)})
    sampling = Sampling(**{field.name: given[field.name] for field in fields(Sampling)})
    device = str(pick_device(given["device"]))
    images, own = subset.images(), {name: given[name] for name in RUN}
    return run_optimum(images, given["out"], seeds, sampling, device=device, record=asdict(subset), **own)
