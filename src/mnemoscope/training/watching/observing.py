"""A look at a pipeline in the middle of its training, which leaves no trace."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import nn

from mnemoscope.model.denoiser import Denoiser


@contextmanager
def observed(pipe: DiffusionPipeline) -> Iterator[Denoiser]:
    """The pipeline as a model to sample from and to score; afterwards everything is as it was, bit for bit.

    That is which modules train, which parameters want gradients, the gradients, and the random states of Python, numpy
    and torch on every device. Where its networks differ in dtype, the block computes in the narrower one.
    """
    networks = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    modes = [(module, module.training) for network in networks for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for network in networks for parameter in network.parameters()]
    python, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad(), _one_dtype(networks):
            yield Denoiser(pipe)
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)
        random.setstate(python)
        np.random.set_state(numpys)


def _one_dtype(networks: list[nn.Module]) -> AbstractContextManager:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    dtypes = {p.dtype for p in parameters if p.is_floating_point()}
    if len(dtypes) < 2:
        return nullcontext()
    return torch.autocast(parameters[0].device.type, min(dtypes, key=lambda dtype: dtype.itemsize))
