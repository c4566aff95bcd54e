"""Look at and change the outputs of named submodules; every hook is gone when its block ends."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.errors import UsageError

CROSS, JOINT = ".attn2.to_v", ".add_v_proj"  # value projections of the text: of cross-attention, of joint attention


def matching(network: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """Submodules whose dotted name matches a shell pattern; raises `UsageError` if none does."""
    modules = {name: m for name, m in network.named_modules() if fnmatch.fnmatchcase(name, pattern)}
    if not modules:
        raise UsageError(f"No module of {type(network).__name__} matches '{pattern}'.")
    return modules


def value_layers(network: nn.Module, *, up: bool = False) -> list[str]:
    """Names of the value projections of the text: the layers of NeMo's neurons.

    In a U-Net those of cross-attention, down blocks first, then the mid block (and the up blocks); in a transformer
    those of cross-attention or, where text and image attend jointly, the text's own, in order and all of them. Raises
    `UsageError` where the text has no value projection of its own.
    """
    known = [name for name, _ in network.named_modules()]
    joint = [n for n in known if n.endswith(JOINT)]
    names = joint or [n for n in known if n.endswith(CROSS)]  # attn2 beside a joint attention is the image's alone
    if not names:
        kind = type(network).__name__
        raise UsageError(f"{kind} has no cross-attention, hence no neurons to locate or ablate.")
    if not any(n.startswith(("down_blocks", "mid_block")) for n in names):
        return names
    order = ["down_blocks", "mid_block", *(["up_blocks"] if up else [])]
    return [n for part in order for n in names if n.startswith(part)]


def value_places(network: nn.Module) -> dict[str, slice]:
    """Where the channels of each value projection lie in one row over all of them, in the order of `value_layers`."""
    places: dict[str, slice] = {}
    end = 0
    for name in value_layers(network, up=True):
        layer: Any = network.get_submodule(name)
        begin, end = end, end + layer.weight.shape[0]
        places[name] = slice(begin, end)
    return places


@contextmanager
def scale_values(network: nn.Module, gain: Float[Tensor, "B N"] | None) -> Iterator[None]:
    """Multiply each sample's value projections by 1 + gain, its channels in the order of `value_places`."""
    if gain is None or not (gain.requires_grad or gain.any()):
        yield
        return
    changes = {}
    for name, place in value_places(network).items():
        gain_there = gain[:, place]
        if gain.requires_grad or gain_there.any():
            if getattr(network.get_submodule(name.rpartition(".")[0]), "fused_projections", False):
                raise UsageError(f"{name} is fused with another projection; call unfuse_qkv_projections() first.")
            changes[name] = partial(_scaled, gain_there)
    with edit_output(network, changes):
        yield


def _scaled(gain: Tensor, output: Tensor) -> Tensor:
    return output * (1 + gain).to(output)[:, None]


@contextmanager
def capture(network: nn.Module, pattern: str) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of the matching submodules by name, one entry a forward pass, with their graphs."""
    seen: dict[str, list[Tensor]] = {name: [] for name in matching(network, pattern)}

    def keep(name: str) -> Callable:
        return lambda module, args, output: seen[name].append(output)

    with _hooked(network, {name: keep(name) for name in seen}):
        yield seen


@contextmanager
def edit_output(network: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the output of each named submodule by a function of it while the block is open."""

    def replace(change: Callable[[Tensor], Tensor]) -> Callable:
        return lambda module, args, output: change(output)

    with _hooked(network, {name: replace(change) for name, change in changes.items()}):
        yield


@contextmanager
def whole(network: nn.Module) -> Iterator[None]:
    """Keep every activation for the backward pass while the block is open, where some would be computed again.

    A block that is computed again after hooks are gone would be computed without them.
    """
    modules = [m for m in network.modules() if getattr(m, "gradient_checkpointing", False)]
    for module in modules:
        module.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.gradient_checkpointing = True  # type: ignore[assignment]


@contextmanager
def _hooked(network: nn.Module, hooks: Mapping[str, Callable]) -> Iterator[None]:
    modules = [_submodule(network, name) for name in hooks]
    handles = [module.register_forward_hook(hook) for module, hook in zip(modules, hooks.values(), strict=True)]
    try:
        with whole(network):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise UsageError(f"{type(network).__name__} has no module '{name}'.") from None
