"""What `emm optimum` is asked for, checked and run."""

from dataclasses import asdict
from pathlib import Path

from mnemoscope.emm.optimum.options import Running, Subset
from mnemoscope.emm.optimum.run import run_optimum
from mnemoscope.emm.sampling.options import Sampling, asked_seeds
from mnemoscope.errors import UsageError
from mnemoscope.model.loading import pick_device
from mnemoscope.run.reading import Json
from mnemoscope.run.settings import one_of


def draw_optimum(
    subset: Subset, running: Running, sampling: Sampling, out: Path, *, device: str, overwrite: bool
) -> Json:
    """Draw what the options ask for; the summary. Raises `UsageError` for what cannot be."""
    one_of("--runner", running.runner, ("local", "ray"))
    for name in ("gallery", "gpus"):
        if (value := getattr(running, name)) < 0:
            raise UsageError(f"--{name} {value} was given; give 0 or more.")
    options = {name: value for name, value in asdict(running).items() if name not in ("images", "seeds")}
    return run_optimum(
        subset.images(),
        out,
        asked_seeds(running.images, running.seeds),
        sampling,
        device=str(pick_device(device)),
        record=asdict(subset),
        overwrite=overwrite,
        **options,
    )
