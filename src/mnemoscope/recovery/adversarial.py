"""Whether an image is gone from a model: a search for an embedding that brings it back."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import schedule
from mnemoscope.model.cond import Cond, rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.noising import noised
from mnemoscope.model.text_embeddings import TextEmbeddings


@torch.enable_grad()
def adversarial_embedding(
    model: Denoiser,
    x0: Float[Tensor, "N C h w"],
    cond: Cond,
    *,
    steps: int = 50,
    lr: int | float = 0.1,
    batch: int = 8,
    seed: int = 0,
) -> tuple[dict[str, Float[Tensor, "N L D"]], list[list[float]]]:
    """Text embeddings under which a model denoises given images best, and the loss of each image at every step.

    `x0` are clean latents. The search begins at the embeddings in `cond`, whose steering (ablated neurons, masked
    attention) stays in force, and takes Adam's steps on the training loss, each over `batch` fresh noises at timesteps
    drawn uniformly. All images see the same noises, so that none depends on the others. Of a model with several texts
    all move; pooled vectors stay. `lr` is in units of the embedding, and for families known by a row in units of its
    root mean square. Costs `steps` x `batch` evaluations with gradient an image. Raises `UsageError` for a model
    without a text embedding and for less than one step or noise. DoRI, arXiv:2507.16880, section 4.
    """
    texts = TextEmbeddings(model.family, cond, "An adversarial embedding stands in for")
    if steps < 1 or batch < 1 or lr <= 0:
        raise UsageError(f"steps={steps}, batch={batch} and lr={lr} were given; give 1 or more, and lr above 0.")
    generator = torch.Generator().manual_seed(seed)
    moved = texts.begun.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=lr)
    history: list[list[float]] = [[] for _ in x0]
    for _ in range(steps):
        losses = _losses(model, x0, texts.into(cond, texts.at(moved)), batch, generator)
        for losses_of, loss in zip(history, losses.tolist(), strict=True):
            losses_of.append(loss)
        (moved.grad,) = torch.autograd.grad(losses.sum(), [moved])
        optimizer.step()
    return dict(zip(texts.names, texts.parts(texts.at(moved.detach())), strict=True)), history


def _losses(model: Denoiser, x0: Tensor, cond: Cond, batch: int, generator: torch.Generator) -> Float[Tensor, " N"]:
    """The training loss of each image, the mean over noises and timesteps that are the same for all."""
    most = model.pipe.scheduler.config.num_train_timesteps
    times = torch.randint(1, most, (batch,), generator=generator).to(model.device)
    noises = torch.randn(batch, *x0.shape[1:], generator=generator).to(model.device)
    inputs, targets = zip(*(_noised(model, x0, t, eps) for t, eps in zip(times, noises, strict=True)), strict=True)
    samples = torch.arange(len(x0), device=model.device).repeat(batch)
    x_t = torch.cat(inputs).to(model.dtype)
    predicted = model.predict(x_t, times.repeat_interleave(len(x0)), rows(cond, samples))
    errors = (predicted.float() - torch.cat(targets)).square().flatten(1).mean(1)
    return errors.reshape(batch, len(x0)).mean(0)


def _noised(model: Denoiser, x0: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """x_t of all images at one time with one noise, and what the network should predict there."""
    clean = x0.to(model.device)
    x_t, level = noised(model.pipe.scheduler, clean, t, eps)
    return x_t, schedule.target(clean.float(), eps.expand_as(clean), *level, model.prediction_type)


def overlap(sets: Sequence[Sequence[int]]) -> float | None:
    """Mean intersection over union of all pairs of sets, in [0, 1]; None for fewer than two or for empty ones.

    1 where every search located the same neurons or weights, near 0 where each located its own.
    """
    pairs = [(set(a), set(b)) for k, a in enumerate(sets) for b in sets[:k]]
    shares = [len(a & b) / len(a | b) for a, b in pairs if a | b]
    return sum(shares) / len(shares) if shares else None
