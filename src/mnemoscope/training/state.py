"""A training between two steps, and what one step does to it."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.run.training_rows import StepLog
from mnemoscope.training.averages import Averages
from mnemoscope.training.filter import Tally
from mnemoscope.training.networks import Networks, TrainingBatch
from mnemoscope.training.optimizers import learning_rate, optimizer
from mnemoscope.training.options import TrainOptions


class Training:
    """Networks, optimizer, averages and the number of steps done: all that the next step depends on.

    Everything else is a function of the step: batches, noise, learning rate, the seed of dropout.
    """

    def __init__(self, nets: Networks, accelerator: Accelerator, options: TrainOptions) -> None:
        self.nets, self.accelerator, self.options = nets, accelerator, options
        self.parameters = nets.parameters_trained
        self.optimizer = optimizer(self.parameters, options, accelerator.num_processes)
        self.rate = learning_rate(options, self.optimizer.param_groups[0]["lr"])
        self.model, self._stepper = accelerator.prepare(nets, self.optimizer)
        self.averages = Averages(self.parameters, options.ema if accelerator.is_main_process else ())
        self.step = 0

    def update(self, batches: Sequence[TrainingBatch]) -> StepLog:
        """One step over its micro-batches; what there is to log of it.

        Where the filter leaves no sample on any process the weights and their averages stay as they are. Raises
        `UsageError` if the loss is no number.
        """
        began, lr = time.perf_counter(), self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        tally = self._backward(batches)
        if tally.loss is not None and not math.isfinite(tally.loss):
            raise UsageError(
                f"The loss of step {self.step + 1} is {tally.loss}; use a lower --learning-rate or another "
                "--mixed-precision, and go on from the last checkpoint."
            )
        norm = self._descend(tally)
        self.step += 1
        return {
            "step": self.step,
            **tally.row(),
            "lr": lr,
            "gradient_norm": norm,
            "updated": norm is not None,
            "seconds": round(time.perf_counter() - began, 4),
        }

    def _backward(self, batches: Sequence[TrainingBatch]) -> Tally:
        """Gradients of the mean over all samples, and what was kept of them on all processes."""
        tallies = []
        for number, batch in enumerate(batches, 1):
            torch.manual_seed(batch.draws.seed + 1_000_003 * self.step + batch.draws.places[0])  # for dropout
            waits = number < len(batches)
            with self.accelerator.no_sync(self.model) if waits else nullcontext():
                losses = self.model(batch)
                self.accelerator.backward(losses.loss / len(batches))
            tallies.append(losses.tally(batch.groups).table)
        return Tally(self.accelerator.reduce(torch.stack(tallies).sum(0), "sum"))

    def _descend(self, tally: Tally) -> float | None:
        """Change the weights by the gradients; their norm before it is clipped, or None where nothing was changed."""
        self.accelerator.unscale_gradients()
        norm = None
        if tally.correct(self.parameters):
            length = nn.utils.clip_grad_norm_(self.parameters, self.options.max_grad_norm)
            self._stepper.step()
            norm = None if self._stepper.step_was_skipped else float(length)
        elif self.accelerator.scaler is not None:
            self.accelerator.scaler.update()  # it must forget that the gradients were looked at
        if norm is not None:
            self.averages.update()
        self._stepper.zero_grad()
        return norm
