"""The optimizer of a training, and its learning rate as a function of the step alone."""

from collections.abc import Callable, Sequence

import torch
from diffusers.optimization import get_scheduler
from torch import nn
from torch.optim import Optimizer

from mnemoscope.errors import UsageError
from mnemoscope.run.settings import Settings
from mnemoscope.training.options import TrainOptions

FUSED = ("cpu", "cuda")


def optimizer(parameters: Sequence[nn.Parameter], options: TrainOptions, processes: int = 1) -> Optimizer:
    """AdamW over the parameters; `scale_lr` multiplies the learning rate by the samples of an update.

    Raises `UsageError` where 8-bit states are asked for and bitsandbytes is not installed.
    """
    samples = options.batch_size * options.accumulation * processes if options.scale_lr else 1
    settings: Settings = {
        "lr": options.learning_rate * samples,
        "betas": (options.adam_beta1, options.adam_beta2),
        "eps": options.adam_epsilon,
        "weight_decay": options.weight_decay,
    }
    if options.optimizer == "adamw8bit":
        return _eight_bit()(parameters, **settings)
    return torch.optim.AdamW(parameters, **settings, fused=parameters[0].device.type in FUSED)


def learning_rate(options: TrainOptions, base: float) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0 in updates, as the diffusers schedule of that name has it."""
    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = get_scheduler(
        options.lr_scheduler, unused, num_warmup_steps=options.warmup, num_training_steps=options.steps
    )
    factor = schedule.lr_lambdas[0]
    return lambda step: base * factor(step)


def _eight_bit() -> type[Optimizer]:
    try:
        import bitsandbytes
    except ImportError as e:
        raise UsageError("The 8-bit optimizer needs bitsandbytes: pip install bitsandbytes.") from e
    return bitsandbytes.optim.AdamW8bit
