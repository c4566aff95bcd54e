"""A model in less memory: networks on the device only while they are in use, activations computed again."""

import math
import mmap
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from mnemoscope.errors import UsageError

ALIGNED = 64  # bytes


def save_memory(pipe: DiffusionPipeline, place: torch.device) -> str:
    """Let a pipeline, whose networks are on the CPU, take less memory on a device; what was done, in a sentence.

    Scores and gradients stay what they are. On an accelerator each network is there only while it is in use, by the
    hooks of diffusers and accelerate. On a CPU the weights of the text encoders lie in a temporary file without a name,
    and their memory is given back when the network is called next. Activations of the network's blocks are computed
    again in the backward pass, and images are decoded one at a time; larger ones than the autoencoder was made for in
    tiles, which changes them a little. Raises `UsageError` where the file finds no room.
    """
    network: Any = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    vae: Any = getattr(pipe, "vae", None)
    done = [_offload(pipe, network, place)]
    if getattr(network, "_supports_gradient_checkpointing", False):
        network.enable_gradient_checkpointing()
        done.append("gradients compute activations twice")
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
        done.append("images are decoded one by one")
    if hasattr(vae, "enable_tiling") and hasattr(vae, "tile_sample_min_size"):
        vae.enable_tiling()
        done.append(f"above {vae.tile_sample_min_size} pixels in tiles, which changes them a little")
    return f"Low memory on {place}: {', '.join(filter(None, done))}."


def _offload(pipe: Any, network: nn.Module, place: torch.device) -> str:
    if place.type != "cpu":
        if pipe.model_cpu_offload_seq is None:
            pipe.to(place)
            return "all networks stay on the device"
        pipe.enable_model_cpu_offload(device=place)
        return "a network is on the device while it is in use"
    encoders = [v for k, v in pipe.components.items() if k.startswith("text_encoder") and isinstance(v, nn.Module)]
    filed = [_Filed(encoder) for encoder in encoders]

    def before(*_: Any) -> None:
        for each in filed:
            each.give_back()

    network.register_forward_pre_hook(before)
    return "text encoders lie in a temporary file and are in memory while they encode" if filed else ""


class _Filed:
    """A network whose weights are read from a temporary file when it is called; none of them may be changed in place.

    Memory of weights that were changed all the same is not given back.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module, self.used = module, True
        parameters = list(module.parameters())
        sizes = [math.ceil(p.numel() * p.element_size() / ALIGNED) * ALIGNED for p in parameters]
        self.file = mmap.mmap(-1, 1) if not sum(sizes) else _written(parameters, sizes)
        place = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            if parameter.numel():
                flat = torch.frombuffer(self.file, dtype=parameter.dtype, count=parameter.numel(), offset=place)
                parameter.data = flat.view(parameter.shape)
            place += size
        self.version = self._version()
        module.register_forward_hook(self._mark)

    def _mark(self, *_: Any) -> None:
        self.used = True

    def _version(self) -> int:
        return sum(p._version for p in self.module.parameters())

    def give_back(self) -> None:
        """Let the system take the memory back; the weights are read anew when they are needed."""
        if self.used and self._version() == self.version and hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)
        self.used = False


def _written(parameters: Sequence[Tensor], sizes: Sequence[int]) -> mmap.mmap:
    """Weights in a file that is gone when nothing reads it any more, whatever ends this process."""
    try:
        with tempfile.TemporaryFile(prefix="mnemoscope-") as file:
            for parameter, size in zip(parameters, sizes, strict=True):
                data = parameter.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
                file.write(data.tobytes())
                file.write(bytes(size - len(data)))
            file.flush()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as e:
        needed = f"{sum(sizes) / 2**30:.1f} GiB"
        where = f"{tempfile.gettempdir()} has no room for {needed} of text encoders ({e.strerror})"
        raise UsageError(f"{where}; set TMPDIR to a folder that has.") from e
