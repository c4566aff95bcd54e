"""A training from scratch between two steps, and what one step does to it."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.optim import Optimizer

from mnemoscope.emm.networks.losses import loss
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.training.averaging import FULL_HALF_LIFE, NetworkAverages
from mnemoscope.emm.training.batches import EmmBatch
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.errors import UsageError
from mnemoscope.run.emm_rows import LossRow
from mnemoscope.training.optimizers import FUSED

LARGEST = 1e5  # what an infinite gradient is taken for
TALLIED = ("loss", "losses", "norm", "norms", "bad_gradients", "skipped")


class MeanLoss(nn.Module):
    """The mean loss of a batch, as the module that processes share."""

    def __init__(self, network: Preconditioned) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: EmmBatch) -> Float32[Tensor, ""]:
        return loss(self.network, batch.images, batch.labels, draws=batch.draws, augment=batch.augment).mean()


class EmmTraining:
    """Network, optimizer, averages and the number of steps done: all that the next step depends on.

    Everything else is a function of the step. `tally` sums what is logged until it is read.
    """

    def __init__(self, network: Preconditioned, accelerator: Accelerator, budget: Budget) -> None:
        self.network, self.accelerator, self.budget = placed(network, accelerator.device).train(), accelerator, budget
        self.options = budget.options
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.parameters, self.options)
        self.averages = NetworkAverages(
            network,
            self.options.averages,
            batch=self.options.batch_size,
            n=budget.images,
            full=self.options.ema_half_life or FULL_HALF_LIFE,
            ramps=self.options.transfer is None,
        )
        self.model, self._stepper = accelerator.prepare(MeanLoss(network), self.optimizer)
        self.tally = torch.zeros(len(TALLIED), device=accelerator.device)
        self.step = 0

    def update(self, parts: Sequence[EmmBatch]) -> None:
        """One step over the parts of its batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.budget.rate(self.step)
        mean = torch.stack(
            [self._backward(part, len(parts), k + 1 < len(parts)) for k, part in enumerate(parts)]
        ).mean()
        self._descend(mean)
        self.step += 1

    def logged(self, lr: float) -> LossRow:
        """Means over the steps since the last time, over all processes, and how many gradients were bad.

        Raises `UsageError` where no loss among them was a number.
        """
        tallied = dict(zip(TALLIED, self.gather_tally().tolist(), strict=True))
        self.tally.zero_()
        if not tallied["losses"]:
            raise UsageError(
                f"The loss is no number any more at step {self.step}; use a lower --learning-rate, a longer --ramp-up "
                "or another --mixed-precision."
            )
        return {
            "step": self.step,
            "lr": lr,
            "loss": tallied["loss"] / tallied["losses"],
            "gradient_norm": tallied["norm"] / tallied["norms"] if tallied["norms"] else None,
            "bad_gradients": round(tallied["bad_gradients"]),
            "skipped": round(tallied["skipped"]),
        }

    def gather_tally(self) -> Float[Tensor, " T"]:
        """The tally, made the mean over all processes."""
        if self.accelerator.num_processes > 1:
            self.tally.copy_(self.accelerator.reduce(self.tally, "mean"))
        return self.tally

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Everything that a network is loaded from, of each average."""
        state = self.network.state_dict()
        return {name: {**state, **shadow} for name, shadow in self.averages.shadows.items()}

    def _backward(self, batch: EmmBatch, parts: int, waits: bool) -> Float[Tensor, ""]:
        if batch.seed is not None:
            torch.manual_seed(batch.seed)
        with self.accelerator.no_sync(self.model) if waits else nullcontext():
            losses = self.model(batch)
            self.accelerator.backward(losses / parts)
        return losses.detach()

    @torch.no_grad()
    def _descend(self, mean: Float[Tensor, ""]) -> None:
        """Change the weights by the gradients, where what is no number counts as 0, and the averages by the weights."""
        self.accelerator.unscale_gradients()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        if norm.device.type != "cpu" or not norm.isfinite():  # elsewhere asking would wait for the device
            for gradient in gradients:
                torch.nan_to_num(gradient, nan=0.0, posinf=LARGEST, neginf=-LARGEST, out=gradient)
        self._stepper.step()
        skipped = self._stepper.step_was_skipped
        self._stepper.zero_grad()
        if not skipped:
            self.averages.update(self.budget.seen(self.step))
        finite, is_good = mean.isfinite(), norm.isfinite()
        zero = torch.zeros_like(mean)
        counts = [torch.where(finite, mean, zero), finite, torch.where(is_good, norm, zero), is_good, ~is_good]
        self.tally += torch.stack([*(c.to(self.tally) for c in counts), torch.full_like(zero, float(skipped))])


def placed(network: Preconditioned, device: torch.device) -> Preconditioned:
    """A network on a device, in the layout of memory in which convolutions are fastest."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def optimizer(parameters: Sequence[nn.Parameter], options: EmmTrainOptions) -> Optimizer:
    """Adam, or gradient descent with momentum; weight decay is coupled, a part of the gradient."""
    shared: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    fused = parameters[0].device.type in FUSED
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=options.momentum, fused=fused, **shared)
    betas = (options.adam_beta1, options.adam_beta2)
    return torch.optim.Adam(parameters, betas=betas, eps=options.adam_epsilon, fused=fused, **shared)
