"""What a training gives: a pipeline, or a LoRA."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

from mnemoscope.training import adapters
from mnemoscope.training.state import Training


def export(training: Training, folder: Path) -> Path:
    """Write `pipeline/`, as diffusers saves one, or `lora/`, with the weights of the first average if there is one."""
    is_lora, averages = training.options.train == "lora", training.averages
    place = folder / ("lora" if is_lora else "pipeline")
    partial = folder / f".{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with averages.applied(averages.decays[0]) if averages.decays else nullcontext():
        if is_lora:
            adapters.write(training.nets.pipe, partial)
        else:
            training.nets.pipe.save_pretrained(partial)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(partial, place)
    return place
