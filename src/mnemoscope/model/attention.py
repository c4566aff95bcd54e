"""Cross-attention with its logits in the open: changed by a sample's conditioning, or by a function inside a block."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import BIAS, GAIN, LOGITS, NEURONS, SPIKES, STEERING, Cond
from mnemoscope.model.hooks import CROSS, JOINT, scale_values, value_layers, whole

Change = Callable[[Tensor, str], Tensor]
Look = Callable[[Tensor, str], None]
PLAIN = ("AttnProcessor", "AttnProcessor2_0", "FusedAttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor")


def layers(network: nn.Module, *, up: bool = True) -> list[str]:
    """Names of the cross-attention layers, down blocks first, then the mid block (and the up blocks)."""
    known = [name for name, _ in network.named_modules()]
    if any(name.endswith(JOINT) for name in known) or not any(name.endswith(CROSS) for name in known):
        raise UsageError(f"{type(network).__name__} has no cross-attention to look at or change; use another method.")
    return [name.removesuffix(".to_v") for name in value_layers(network, up=up)]


@contextmanager
def edited(network: nn.Module, change: Change, *, layers: Iterable[str] | None = None) -> Iterator[None]:
    """Let `change(logits, layer name) -> logits` act on cross-attention logits, [samples, heads, queries, keys].

    The logits are those before the softmax, in float32; without `layers` every cross-attention layer is meant. Edits
    nest, and the inner one acts last. Raises `UsageError` for a network without cross-attention.
    """
    with _installed(network, change, _every(network) if layers is None else list(layers)):
        yield


@contextmanager
def watched(network: nn.Module, look: Look, layers: Iterable[str]) -> Iterator[None]:
    """Let `look(probabilities, layer name)` see the cross-attention of these layers, [samples, heads, queries, keys].

    The probabilities are those that the values are mixed by, after whatever steers or edits them, in float32.
    """
    with _installed(network, lambda logits, name: logits, list(layers), look=look):
        yield


def steer(cond: Cond, *, bias: Tensor | None = None, gain: Tensor | None = None) -> Cond:
    """A conditioning whose samples see other logits, `(1 + gain) logit + bias`, on top of what steers them already."""
    new = dict(cond)
    if bias is not None:
        new[BIAS] = bias + cond[BIAS] if BIAS in cond else bias
    if gain is not None:
        new[GAIN] = (1 + gain) * (1 + cond[GAIN]) - 1 if GAIN in cond else gain
    return new


def attenuate(cond: Cond, alpha: int | float, tau: int | float, layers: Literal["early", "all"]) -> Cond:
    """A conditioning whose samples see logits of keys that stand out by more than `tau` multiplied by `alpha`."""
    row = torch.tensor([1 - alpha, tau, layers == "all"], dtype=torch.float32)
    first = next(iter(cond.values()))
    return {**cond, SPIKES: row.to(first.device).repeat(len(first), 1)}


def steered(network: nn.Module, predict: Callable[..., Tensor], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
    """A prediction under the steering in the conditioning; what is not steered is computed as without any."""
    rest = {k: v for k, v in cond.items() if k not in STEERING}
    tangents = torch._C._functorch.is_functorch_wrapped_tensor(x_t)  # forward-mode derivatives are not computed twice
    with whole(network) if tangents else nullcontext(), scale_values(network, cond.get(NEURONS)):
        return _with_logits(network, predict, x_t, t, rest, {k: cond[k] for k in LOGITS if k in cond})


def _with_logits(
    network: nn.Module, predict: Callable[..., Tensor], x_t: Tensor, t: Tensor, rest: Cond, steering: Cond
) -> Tensor:
    if not steering:
        return predict(x_t, t, rest)
    rows = torch.stack([(v[:, :1] if k == SPIKES else v).ne(0).any(1) for k, v in steering.items()]).any(0)
    if not rows.any():
        return predict(x_t, t, rest)
    with _installed(network, _steering(steering), _every(network), None if rows.all() else rows):
        return predict(x_t, t, rest)


def spikes(logits: Float[Tensor, "B H Q L"], tau: Float[Tensor, " B"]) -> Bool[Tensor, "B H L"]:
    """Keys whose greatest logit over the queries lies more than tau deviations above the keys' mean; never the first.

    Mean and deviation are taken over all keys but the first, for each sample and head (GUARD).
    """
    most = logits.amax(dim=2)
    rest = most[..., 1:]
    spiking = (most - rest.mean(-1, keepdim=True)) / rest.std(-1, keepdim=True) > tau[:, None, None]
    spiking[..., 0] = False
    return spiking


def _every(network: nn.Module) -> list[str]:
    return layers(network)


def _steering(steering: Mapping[str, Tensor]) -> Change:
    def change(logits: Tensor, name: str) -> Tensor:
        if GAIN in steering:
            logits = logits * (1 + steering[GAIN])[:, None, None]
        if SPIKES in steering:
            less, tau, everywhere = steering[SPIKES].unbind(1)
            less = torch.where(everywhere > 0, less, 0) if name.startswith("up_blocks") else less
            logits = logits * (1 - less[:, None, None, None] * spikes(logits, tau)[:, :, None])
        return logits + steering[BIAS][:, None, None] if BIAS in steering else logits

    return change


class _Explicit:
    """An attention processor that computes what diffusers' own do, with the logits changed on their way."""

    def __init__(
        self, name: str, change: Change, before: Any, rows: Tensor | None = None, look: Look | None = None
    ) -> None:
        if not isinstance(before, _Explicit) and type(before).__name__ not in PLAIN:
            raise UsageError(f"{name} has a {type(before).__name__}, which no logits can be changed in; remove it.")
        self.name, self.before = name, before
        self.changes: tuple[Change, ...] = (*getattr(before, "changes", ()), change)
        self.looks: tuple[Look, ...] = (*getattr(before, "looks", ()), *([look] if look else []))
        self.rows = None if isinstance(before, _Explicit) else rows

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        ours = self._attended(attn, hidden_states, encoder_hidden_states, attention_mask)
        if self.rows is None:
            return ours
        plain = self.before(attn, hidden_states, encoder_hidden_states, attention_mask)
        return torch.where(self.rows.to(ours.device)[:, None, None], ours, plain)

    def _attended(self, attn: Any, hidden: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        x = hidden if attn.group_norm is None else attn.group_norm(hidden.mT).mT
        if text is None:
            text = x
        elif attn.norm_cross:
            text = attn.norm_encoder_hidden_states(text)
        parts = (attn.to_q(x), attn.to_k(text), attn.to_v(text))
        q, k, v = (p.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for p in parts)
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        logits = attn.scale * q.float() @ k.float().mT
        for change in self.changes:
            logits = change(logits, self.name)
        if mask is not None:
            mask = attn.prepare_attention_mask(mask, k.shape[2], len(k))
            logits = logits + mask.unflatten(0, (len(k), attn.heads))
        probabilities = logits.softmax(-1)
        for look in self.looks:
            look(probabilities, self.name)
        out = (probabilities.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return (out + hidden if attn.residual_connection else out) / attn.rescale_output_factor


@contextmanager
def _installed(
    network: nn.Module, change: Change, names: list[str], rows: Tensor | None = None, look: Look | None = None
) -> Iterator[None]:
    modules: list[Any] = [network.get_submodule(name) for name in names]
    before = [module.processor for module in modules]
    ours = [_Explicit(name, change, old, rows, look) for name, old in zip(names, before, strict=True)]
    try:
        for module, processor in zip(modules, ours, strict=True):
            module.processor = processor
        with whole(network):
            yield
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.processor = processor
