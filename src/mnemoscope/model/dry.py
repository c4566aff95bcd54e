"""Dry runs of a user's own pipeline: what its network would be given, and its solver then; nothing is drawn."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from mnemoscope.errors import UsageError
from mnemoscope.model.solvers import copied

Arguments = dict[str, Any]  # of a call of a network, by name
Outputs = dict[tuple[str, ...], Any]  # of a text encoder, by its name and what it was given


class Recorded(NamedTuple):
    """A call of the network by its arguments' names, the solver then, and the ids that each text encoder was given."""

    arguments: Arguments
    solver: Any
    ids: dict[str, list[Tensor]]


class _Reached(Exception):
    """The call that a dry run is made for."""


@torch.no_grad()
def dry_run(
    pipe: DiffusionPipeline,
    network: nn.Module,
    prompts: Sequence[str],
    call: Mapping[str, Any],
    *,
    number: int = 1,
    known: Outputs | None = None,
) -> Recorded:
    """The `number`th call of the network when the pipeline is called with these prompts and arguments.

    Calls before it are carried out. What the text encoders gave is taken from `known` and added to it, so that dry runs
    of the same text encode it once. All hooks are gone afterwards, and neither the pipeline, its solver, the prompts
    nor the global random numbers are touched, so that a dry run may come in the middle of a call. Raises
    `UsageError` for a network with a cache, whose steps depend on earlier ones.
    """
    refuse_cache(network)
    calls: list[tuple[Arguments, Any]] = []
    ids: dict[str, list[Tensor]] = {}
    left = number

    def at_network(module: nn.Module, args: tuple, kwargs: Arguments) -> None:
        nonlocal left
        left -= 1
        if not left:
            calls.append((bound(module, args, kwargs), copied(pipe.scheduler)))
            raise _Reached

    def at_encoder(name: str) -> Any:
        return lambda module, args, kwargs: ids.setdefault(name, []).append(_ids(args, kwargs))

    encoders = {k: v for k, v in pipe.components.items() if k.startswith("text_encoder") and isinstance(v, nn.Module)}
    with ExitStack() as hooks:
        for module, hook in [(network, at_network), *((v, at_encoder(k)) for k, v in encoders.items())]:
            handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            hooks.callback(handle.remove)
        for name, encoder in encoders.items():
            hooks.enter_context(_remembering(encoder, name, known))
        hooks.enter_context(_untouched(pipe))
        try:
            pipe(prompt=list(prompts), generator=torch.Generator().manual_seed(0), output_type="latent", **call)
        except _Reached:
            return Recorded(*calls[0], ids)
    raise UsageError(f"{type(pipe).__name__} did not call its network {number} times; its row does not describe it.")


def refuse_cache(network: nn.Module) -> None:
    """Raise `UsageError` for a network with a cache."""
    if getattr(network, "is_cache_enabled", False):
        raise UsageError(
            f"{type(network).__name__} has a cache enabled, which skips steps; call disable_cache() first."
        )


@contextmanager
def _remembering(encoder: nn.Module, name: str, known: Outputs | None) -> Iterator[None]:
    """Compute the encoder's output of each input once, if what is known of it is kept."""
    if known is None:
        yield
        return
    before, plain = encoder.__dict__.get("forward"), encoder.forward

    @wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        leaves, shape = tree_flatten((args, kwargs))
        key = (name, str(shape), *(str(leaf.tolist()) if isinstance(leaf, Tensor) else str(leaf) for leaf in leaves))
        if key not in known:
            known[key] = plain(*args, **kwargs)
        return known[key]

    encoder.forward = forward
    try:
        yield
    finally:
        del encoder.forward
        if before is not None:
            encoder.forward = before


@contextmanager
def _untouched(pipe: DiffusionPipeline) -> Iterator[None]:
    """Let a call work on a solver of its own, without a progress bar, and put back what it notes on the pipeline."""
    before = dict(vars(pipe))
    pipe.scheduler, pipe._progress_bar_config = copied(pipe.scheduler), {"disable": True}
    try:
        yield
    finally:
        vars(pipe).clear()
        vars(pipe).update(before)


def bound(module: nn.Module, args: tuple, kwargs: Arguments) -> Arguments:
    """Arguments of a call of a network by their names."""
    forward = getattr(module, "_orig_mod", module).forward  # a compiled network hides its signature
    return dict(inspect.signature(forward).bind(*args, **kwargs).arguments)


def _ids(args: tuple, kwargs: Arguments) -> Tensor:
    return (args[0] if args else kwargs["input_ids"]).cpu()
