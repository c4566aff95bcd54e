"""Trackers of experiments, as accelerate knows them: tensorboard, wandb, trackio and others that are installed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json

FOLDER = "trackers"  # of a run, where those that write files write them


def require(names: Sequence[str]) -> None:
    """Raise `UsageError` for a tracker that is not to be had."""
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    there = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    if missing := [name for name in names if name not in there]:
        has = ", ".join(sorted(there)) or "none"
        raise UsageError(f"The tracker {missing[0]} is not installed or not known; installed: {has}.")


@contextmanager
def released() -> Iterator[None]:
    """Accelerate's state, if it was made in the block, is gone behind it."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    is_ours = not PartialState._shared_state
    try:
        yield
    finally:
        if is_ours:
            PartialState().destroy_process_group()
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()


def track(
    names: Sequence[str], folder: Path, project: str, numbers: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Log numbers once, with the settings they belong to, to the trackers of these names; nothing if none is named."""
    if not names:
        return
    import torch
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    require(names)
    state = torch.get_rng_state()
    with released():
        try:
            where = ProjectConfiguration(str(folder), str(folder / FOLDER))
            accelerator = Accelerator(cpu=True, log_with=list(names), project_config=where)
            accelerator.init_trackers(project, plain(settings))
            accelerator.log(dict(numbers))
            accelerator.end_training()
        finally:
            torch.set_rng_state(state)


def plain(settings: Mapping[str, Any]) -> Json:
    """The settings that every tracker can hold: numbers, texts and truth values."""
    return {k: v for k, v in settings.items() if isinstance(v, bool | int | float | str)}
