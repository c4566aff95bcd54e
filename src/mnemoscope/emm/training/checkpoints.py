"""The checkpoint of a training from scratch: a file of tensors and one of numbers; it goes on from them bit for bit."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnemoscope.emm.training.stepping import EmmTraining
from mnemoscope.run.run import write_json
from mnemoscope.training.checkpoints import flat, reading, restore_optimizer, restore_scaler, scaler_state

FILE = "state.safetensors"
PARTS = ("network", "averages", "optimizer")


def write(training: EmmTraining, folder: Path) -> None:
    """Write all that the next step depends on."""
    optimizer, numbers = flat(training.optimizer)
    parts = zip(PARTS, (training.network.state_dict(), training.averages.state_dict(), optimizer), strict=True)
    tensors = {f"{part}:{name}": tensor for part, tensors_of in parts for name, tensor in tensors_of.items()}
    tensors["tally"] = training.tally
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / FILE)
    state = {"step": training.step, "optimizer": numbers, "scaler": scaler_state(training.accelerator.scaler)}
    write_json(folder / "state.json", state)


@torch.no_grad()
def restore(training: EmmTraining, checkpoint: Path) -> None:
    """Put a training where a checkpoint left it; raises `UsageError` for a checkpoint that is damaged or another's."""
    with reading(checkpoint) as state:
        tensors = load_file(checkpoint / FILE)
        training.network.load_state_dict(_part(tensors, "network"))
        training.averages.load_state_dict(_part(tensors, "averages"))
        restore_optimizer(training.optimizer, _part(tensors, "optimizer"), state["optimizer"])
        restore_scaler(training.accelerator.scaler, state["scaler"])
        training.tally.copy_(tensors["tally"])
        training.step = state["step"]


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}:"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}:")}
