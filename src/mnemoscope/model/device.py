"""Where a network runs, and with how many threads."""

import os
from typing import Any

import torch

from mnemoscope.errors import UsageError


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the first accelerator or else the CPU."""
    if device == "auto":
        kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((k for k, there in kinds.items() if there), "cpu"))
    try:
        there = torch.zeros(1, device=device)
        there.cpu()  # the device "meta" holds no numbers
        return there.device
    except (RuntimeError, AssertionError) as e:
        raise UsageError(f"Device '{device}' is not to be had here; use auto or cpu.") from e


def working_on(module: Any) -> torch.device:
    """Where a network computes, which is not where its weights lie while they are offloaded."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return module.device if device is None else torch.device(device)


def settle_threads() -> int:
    """Give torch the cores that nothing else uses now: on a busy machine too many threads wait for one another.

    `OMP_NUM_THREADS` decides where it is set.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        idle = (os.cpu_count() or 1) - os.getloadavg()[0]
        torch.set_num_threads(max(1, min(torch.get_num_threads(), round(idle))))
    return torch.get_num_threads()
