"""The run of a training: what it is known again by, and its folder, open on the first process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run, read_json, write_json
from mnemoscope.run.trackers import plain
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions


def record_of(
    data: TrainingSet,
    options: TrainOptions,
    objective: ObjectiveOptions,
    model: Json,
    accelerator: Accelerator,
) -> Json:
    """What a run is known again by."""
    settings = {**asdict(data.options), **asdict(objective), **options.fixed()}
    about = {"hash": data.content, "seed": data.options.seed, "resolution": data.resolution}
    return {
        "settings": settings,
        "model": model,
        "data": about,
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
    }


@contextmanager
def opened(
    folder: Path,
    command: str,
    record: Json,
    free: Mapping[str, Any],
    accelerator: Accelerator,
    overwrite: bool,
) -> Iterator[Run | None]:
    """The run on the first process, once it is open; None on the others."""
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield None
        accelerator.wait_for_everyone()
        return
    settings = record.pop("settings")
    with Run(folder, command, settings, overwrite=overwrite, **record) as run:
        write_json(folder / "run.json", read_json(folder / "run.json") | {"free": dict(free)})
        if free["trackers"]:
            accelerator.init_trackers(str(free["project"]), plain({**settings, **free}))
        accelerator.wait_for_everyone()
        yield run
        accelerator.wait_for_everyone()  # the end of the first process would cut the others off
        accelerator.end_training()
