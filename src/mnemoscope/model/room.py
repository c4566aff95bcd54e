"""How many samples a device has room for: by what is free there, and what one of them is measured to take."""

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnemoscope.model.denoiser import Denoiser

SHARE = 0.7  # of what is free that samples may take
MOST = 64
ON_CPU = 2**16  # numbers of latents in a batch, beyond which it is no faster
UNMEASURED = 2**15  # bytes for each number of a latent, more than any network takes without a graph
GRAPH = 4  # samples without a graph that take about as much memory as one with it, or less


def room(model: Denoiser, graph: bool = False) -> int:
    """Samples that may be computed together, both branches of each, with a graph in the conditional one or without.

    A power of two. One sample is measured only where a generous guess of what it takes would not let the most there
    may be go together.
    """
    channels, height, width = model.latent_shape
    numbers = channels * height * width
    on_cpu = model.device.type == "cpu"
    most = max(1, min(MOST, ON_CPU // numbers if on_cpu else MOST) // (GRAPH if graph else 1))
    free = free_bytes(model.device)
    if free is None:
        return max(1, min(most, 2**19 // numbers))
    each = numbers * UNMEASURED * (GRAPH * 2 if graph else 1)
    if most > 1 and 2 * most * each > SHARE * free:
        each = max(1, sample_bytes(model, graph))
        most = max(1, min(most, int(SHARE * free / (2 * each))))
    return 2 ** (most.bit_length() - 1)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; of a CPU, those that the system can give to this process. None if unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return _free_on_cpu() if device.type == "cpu" else None


def _free_on_cpu(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the system says is available, and what is left of this group's own limit where it has one."""
    found = []
    if proc.exists():
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    limit, used = group / "memory.max", group / "memory.current"
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        found.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(found)) if found else None


def sample_bytes(model: Denoiser, graph: bool = False) -> int:
    """The most memory that one sample's way through the network takes, and its way back with a graph.

    The pass is not counted among the model's evaluations.
    """
    cond = model.encode([""]) if model.family.unguided else model.null(1)
    cond = model.family.guided(cond, model.family.default_guidance)
    x, t, before = model.initial_noise([0]), model.pipe.scheduler.timesteps[0], model.network_evaluations
    leaves = {k: v.detach().requires_grad_(graph and v.is_floating_point()) for k, v in cond.items()}
    try:
        if model.device.type != "cuda":
            with Alive() as alive:
                _pass(model, x, t, leaves, graph)
            return alive.most
        torch.cuda.reset_peak_memory_stats(model.device)
        began = torch.cuda.memory_allocated(model.device)
        _pass(model, x, t, leaves, graph)
        return torch.cuda.max_memory_allocated(model.device) - began
    finally:
        model.network_evaluations = before


def _pass(model: Denoiser, x: Tensor, t: Tensor, cond: Mapping[str, Tensor], graph: bool) -> None:
    with torch.set_grad_enabled(graph):
        predicted = model.predict(x, t, cond)
        if graph:
            wanted = [v for k, v in cond.items() if v.requires_grad]
            torch.autograd.grad(predicted.float().square().sum(), wanted, allow_unused=True)


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are made in the block and are alive, and the most that there were of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._see(tree_leaves((args, kwargs)), new=False)  # what an output may be a view of is not new
        out = func(*args, **(kwargs or {}))
        self._see(tree_leaves(out), new=True)
        return out

    def _see(self, leaves: list[Any], new: bool) -> None:
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or (storage := leaf.untyped_storage())._cdata in self.known:
                continue
            size = storage.nbytes() if new else 0
            self.known.add(storage._cdata)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, storage._cdata, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size
