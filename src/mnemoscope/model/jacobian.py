"""Derivatives of a network with respect to its latents, along directions: no Jacobian is ever formed."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from mnemoscope.errors import UsageError

Field = Callable[[Float[Tensor, "N C h w"], Int[Tensor, " N"]], Float[Tensor, "N C h w"]]
Derivative = Literal["forward", "central"]
Probes = Literal["exact", "rademacher", "gaussian"]
AT_ONCE = 16  # latents that carry a direction, in one call of the function


class Trace(NamedTuple):
    """Trace of each sample's Jacobian, its standard deviation over probes, and the function's value there."""

    mean: Float[Tensor, " B"]
    std: Float[Tensor, " B"]
    value: Float[Tensor, "B C h w"]


class Dimension(NamedTuple):
    """Local dimension of each sample, and what it is made of: D - sigma * trace + squared_norm."""

    value: Float[Tensor, " B"]
    trace: Float[Tensor, " B"]
    squared_norm: Float[Tensor, " B"]
    std: Float[Tensor, " B"]  # of the trace, over probes


def along(
    f: Field,
    x: Float[Tensor, "N C h w"],
    directions: Float[Tensor, "N C h w"],
    samples: Int[Tensor, " N"] | None = None,
    *,
    derivative: Derivative = "forward",
    h: int | float = 0.01,
) -> tuple[Float[Tensor, "N C h w"], Float[Tensor, "N C h w"]]:
    """Value of f at x, and its derivative along one direction for each latent.

    "forward" is exact: one forward pass with tangents, and attention in plain matrix products, as forward mode has no
    fused kernel. "central" takes half the sum and half the difference of f(x + m) and f(x - m), from one batched call,
    where m moves no element by more than h: both are off by the order of h squared. All is differentiable in x, in the
    directions, and in whatever f closes over. `samples` says which sample each latent belongs to, as f is told.
    """
    if samples is None:
        samples = torch.arange(len(x), device=x.device)
    if derivative == "forward":
        with sdpa_kernel(SDPBackend.MATH), _Normalizations(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)  # torch's own use
            value, derived = jvp(lambda z: f(z, samples), (x,), (directions,))[:2]
            return value, derived
    if h <= 0:
        raise UsageError(f"The difference step h was {h}; give a number above 0.")
    reach = directions.detach().flatten(1).abs().amax(1).clamp_min(1e-30)[:, None, None, None]
    move = h * directions / reach
    plus, minus = f(torch.cat([x + move, x - move]), samples.repeat(2)).chunk(2)
    return (plus + minus) / 2, (plus - minus) * (reach / (2 * h))


def trace(
    f: Field,
    x: Float[Tensor, "B C h w"],
    *,
    how: Probes = "exact",
    probes: int = 1,
    seed: int = 0,
    derivative: Derivative = "forward",
    h: int | float = 0.01,
    at_once: int = AT_ONCE,
) -> Trace:
    """Trace of the Jacobian of f at each sample: the sum over a basis, or the mean of v J v over random probes v.

    Probe k is the k-th draw of a CPU generator with this seed, the same for each sample, so that a result depends on
    no other sample. Probes are drawn as they are used. The standard deviation is 0 for the exact trace and NaN for a
    single probe. The value of f comes with the first probe, at no further evaluation.
    """
    index_of, here = torch.arange(len(x), device=x.device), torch.empty(0)
    forms: list[Tensor] = []
    for v in _drawn(how, x.shape[1:], probes, seed, max(1, at_once // len(x))):
        directions = v.to(x.device, x.dtype).repeat_interleave(len(x), 0)
        samples = index_of.repeat(len(v))
        value, moved = along(f, x.repeat(len(v), 1, 1, 1), directions, samples, derivative=derivative, h=h)
        here = here if forms else value[: len(x)]
        forms.append((directions.float() * moved.float()).flatten(1).sum(1).reshape(len(v), len(x)))
    each = torch.cat(forms)
    if how == "exact":
        return Trace(each.sum(0), torch.zeros_like(each[0]), here)
    return Trace(each.mean(0), each.std(0) if probes > 1 else torch.full_like(each[0], torch.nan), here)


def diagonal(
    f: Field,
    x: Float[Tensor, "B C h w"],
    *,
    how: Probes = "rademacher",
    probes: int = 1,
    seed: int = 0,
) -> Float[Tensor, "B C h w"]:
    """Diagonal of the Jacobian of f at each sample, by element: the mean of v times J^T v over random probes v.

    One evaluation with a graph, and one gradient a probe. "exact" takes the vectors of the basis, one gradient an
    element. Probes are drawn as in `trace`, one at a time, the same for each sample.
    """
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        value = f(leaf, torch.arange(len(x), device=x.device))
    total, drawn = torch.zeros_like(leaf, requires_grad=False), 0
    for v in _drawn(how, x.shape[1:], probes, seed, 1):
        direction = v.to(value).expand_as(value)
        (pulled,) = torch.autograd.grad(value, leaf, direction, retain_graph=True)
        total += direction * pulled
        drawn += 1
    return total if how == "exact" else total / drawn


def dimension(
    eps: Field, x_t: Float[Tensor, "B C h w"], sigma: float, *, h: int | float = 0.01, **tracing: Any
) -> Dimension:
    """FLIPD, the local intrinsic dimension of a density at x_t / alpha: D - sigma tr(grad eps) + ||eps||_2^2.

    `eps` predicts the noise in x_t = alpha x_0 + sigma noise, whatever the network itself predicts, hence one formula
    for eps, v, x_0 and flow. The other parameters are those of `trace`, h in units of sigma. arXiv:2406.03537.
    """
    traced = trace(eps, x_t, h=h * sigma, **tracing)
    squared_norm = traced.value.float().flatten(1).square().sum(1)
    value = x_t[0].numel() - sigma * traced.mean + squared_norm
    return Dimension(value, traced.mean, squared_norm, traced.std)


class _Normalizations(TorchFunctionMode):
    """Normalizations whose forward mode torch has right: group normalization, and of contiguous inputs only.

    Layer normalization has right tangents but wrong gradients of them, its statistics being taken for constants; it is
    group normalization of one group.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is functional.layer_norm:
            return _layer_norm(*args, **(kwargs or {}))
        if func is functional.group_norm:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    scale, shift = (None if p is None else p.flatten() for p in (weight, bias))
    flat = input.reshape(-1, math.prod(normalized_shape))
    return functional.group_norm(flat, 1, scale, shift, eps).reshape(input.shape)


def _drawn(how: Probes, shape: torch.Size, probes: int, seed: int, at_once: int) -> Iterator[Float[Tensor, "K C h w"]]:
    """The probes, or the vectors of the basis, some at a time."""
    if how == "exact":
        size = shape.numel()
        for start in range(0, size, at_once):
            places = torch.arange(start, min(start + at_once, size))
            yield functional.one_hot(places, size).float().reshape(-1, *shape)
        return
    if probes < 1:
        raise UsageError(f"{probes} probes were asked for; give 1 or more, or the exact trace.")
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, probes, at_once):
        drawn = [torch.randn(shape, generator=generator) for _ in range(min(at_once, probes - start))]
        yield torch.stack(drawn) if how == "gaussian" else torch.stack(drawn).sign()
