"""Checkpoints of a training: all that its next step depends on, whole or not there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.amp import GradScaler
from torch.optim import Optimizer

from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, write_json
from mnemoscope.run.schema import misfit_fields
from mnemoscope.run.writing import clean, retire, whole
from mnemoscope.training.options import suffix

if TYPE_CHECKING:
    from mnemoscope.training.state import Training

State = dict[str, Any]  # of an optimizer or a scaler, in the words of torch
NAME = re.compile(r"step-(\d{6,})")


class CheckpointState(TypedDict):
    """What `state.json` says of a checkpoint: its numbers, where its tensors are in other files."""

    step: int
    updates: NotRequired[int]
    optimizer: State
    scaler: State | None


class Checkpoints:
    """The checkpoints of a run, `step-000123/` each, of which the newest `keep` are kept (all if None)."""

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.folder, self.keep = folder, keep

    def all(self) -> list[Path]:
        """The checkpoints, oldest first; what a kill left half done is not among them."""
        folders = [path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)]
        return sorted(folders, key=step_of)

    def newest(self) -> Path | None:
        """The checkpoint of the last step that has one."""
        return next(reversed(self.all()), None)

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Have a checkpoint written beside its place, move it there, and drop the oldest beyond `keep`."""
        place = self.folder / f"step-{step:06d}"
        if not place.is_dir():
            self.clean()
            with whole(place) as partial:
                partial.mkdir()
                write(partial)
        for old in self.all()[: -self.keep] if self.keep else []:
            retire(old)
        return place

    def clean(self) -> None:
        """Delete what a kill left half done."""
        clean(self.folder)


def step_of(checkpoint: Path) -> int:
    """How many steps were done at a checkpoint."""
    return int(checkpoint.name.removeprefix("step-"))


@contextmanager
def reading(checkpoint: Path) -> Iterator[State]:
    """The `state.json` of a checkpoint; `UsageError` for one that turns out to be damaged, or another training's."""
    state = read_json(checkpoint / "state.json")
    if why := misfit_fields(state, CheckpointState):
        raise UsageError(f"{checkpoint} is no checkpoint of this training, or damaged: {why}.")
    try:
        yield state
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as e:
        reason = f"{type(e).__name__}: {e}".partition("\n")[0][:200]
        raise UsageError(f"{checkpoint} is no checkpoint of this training, or damaged: {reason}") from e


def restore(training: "Training", checkpoint: Path) -> None:
    """Put a training where a checkpoint left it; raises `UsageError` for a checkpoint that is damaged or another's."""
    with reading(checkpoint) as state:
        for decay in training.averages.models:
            training.nets.read(checkpoint, suffix(decay))
            training.averages.restore(decay, state["updates"])
        training.nets.read(checkpoint)
        restore_optimizer(training.optimizer, load_file(checkpoint / "optimizer.safetensors"), state["optimizer"])
        restore_scaler(training.accelerator.scaler, state["scaler"])
        training.step = state["step"]


def write(training: "Training", folder: Path) -> None:
    """Write all that the next step of a training depends on."""
    training.nets.write(folder)
    for decay in training.averages.models:
        with training.averages.applied(decay):
            training.nets.write(folder, suffix(decay))
    tensors, numbers = flat(training.optimizer)
    save_file(tensors, folder / "optimizer.safetensors")
    state = {
        "step": training.step,
        "updates": training.averages.updates,
        "optimizer": numbers,
        "scaler": scaler_state(training.accelerator.scaler),
    }
    write_json(folder / "state.json", state)


def flat(optimizer: Optimizer) -> tuple[dict[str, torch.Tensor], State]:
    """The state of each parameter under "number.name": what is a tensor, and what is not."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: State = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                numbers[f"{number}.{name}"] = value
    return tensors, numbers


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, torch.Tensor], numbers: State) -> None:
    """Give an optimizer the state that `flat` told of."""
    state: dict[int, State] = {}
    for key, value in {**tensors, **numbers}.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, numbers_of in optimizer.state.items():  # in the layout of the parameter, which a file does not have
        for name, value in numbers_of.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                numbers_of[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def scaler_state(scaler: GradScaler | None) -> State | None:
    """The state of the scaler of gradients in half precision, where there is one."""
    return None if scaler is None else scaler.state_dict()


def restore_scaler(scaler: GradScaler | None, state: State | None) -> None:
    """Give a scaler the state that `scaler_state` told of."""
    if scaler is not None and state:
        scaler.load_state_dict(state)
