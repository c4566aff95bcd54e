"""Neurons multiplied by a factor: output channels of the cross-attention value projections, each sample its own.

What is ablated travels as rows of the conditioning, so that samples and branches that are batched, selected or shared
keep what is theirs. `steer` gives a conditioning for single forward passes; `ablated` and `masked` act on samplings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import NEURONS, Cond
from mnemoscope.model.hooks import value_layers, value_places

if TYPE_CHECKING:
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.model.predictor import Predictor
    from mnemoscope.model.start import Start

Neurons = Mapping[str, Tensor | Sequence[int]]  # indices of output channels by the name of their value projection
Masks = Mapping[str, Float[Tensor, "B C"]]  # what each channel of each sample is multiplied by
Layers = Literal["seven", "all"]
Branch = Literal["both", "cond"]


def layers(model: "Predictor", which: Layers = "seven") -> dict[str, nn.Module]:
    """Value projections of the text by name: those of the down and mid blocks, or the up blocks' as well.

    "seven" is named after Stable Diffusion 1 and 2, where these are seven; SDXL has 34 of them, and of a transformer
    they are all. Raises `UsageError` for a model whose text has no value projection of its own.
    """
    network = model.network
    return {name: network.get_submodule(name) for name in value_layers(network, up=which == "all")}


def widths(model: "Predictor", which: Layers = "seven") -> dict[str, int]:
    """Number of neurons of each layer, in the order of `layers`."""
    modules: Mapping[str, Any] = layers(model, which)
    return {name: module.weight.shape[0] for name, module in modules.items()}


def count(neurons: Neurons) -> int:
    """Number of neurons of a set, none of them twice."""
    return sum(len(indices) for indices in lists(neurons).values())


def lists(neurons: Neurons) -> dict[str, list[int]]:
    """A set in plain types: indices in order and none twice; layers in the set's own order, empty ones left out."""
    plain = {name: sorted({int(i) for i in indices}) for name, indices in neurons.items()}
    return {name: indices for name, indices in plain.items() if indices}


def union(sets: Iterable[Neurons]) -> dict[str, list[int]]:
    """All neurons of several sets."""
    joined: dict[str, list[int]] = {}
    for neurons in sets:
        for name, indices in lists(neurons).items():
            joined[name] = [*joined.get(name, []), *indices]
    return lists(joined)


def by_layer(neurons: Neurons, names: Sequence[str]) -> list[list[int]]:
    """One list of indices for each of the named layers, as NeMo's tables hold them; raises `UsageError` for others."""
    plain = lists(neurons)
    if strange := [name for name in plain if name not in names]:
        raise UsageError(f"{strange[0]} is none of the {len(names)} layers; locate with layers=seven.")
    return [plain.get(name, []) for name in names]


def checked(model: "Predictor", neurons: Neurons) -> dict[str, list[int]]:
    """The set in plain types, in the order of the layers; raises `UsageError` for what the model does not have."""
    plain, known = lists(neurons), widths(model, "all")
    for name, indices in plain.items():
        if name not in known:
            has = f"its value projections are {next(iter(known))} and {len(known) - 1} more"
            raise UsageError(f"The model has no layer '{name}'; {has}.")
        if indices[0] < 0 or indices[-1] >= known[name]:
            wrong = indices[0] if indices[0] < 0 else indices[-1]
            raise UsageError(f"{name} has no neuron {wrong}; it has {known[name]}, counted from 0.")
    return {name: plain[name] for name in known if name in plain}


def gain(model: "Predictor", sets: Sequence[Neurons], factor: int | float = 0.0) -> Float[Tensor, "B N"]:
    """What `Cond` carries for one set a sample: factor - 1 for each of its neurons, and 0 for all others."""
    layers(model, "all")
    places = value_places(model.network)
    multiplied = torch.zeros(len(sets), next(reversed(places.values())).stop, device=model.device)
    rows: dict[int, list[list[int]]] = {}  # equal sets are checked once
    for row, neurons in enumerate(sets):
        if id(neurons) not in rows:
            rows[id(neurons)] = [
                [places[n].start + i for i in indices] for n, indices in checked(model, neurons).items()
            ]
        multiplied[row, [i for indices in rows[id(neurons)] for i in indices]] = factor - 1
    return multiplied


def gain_of_masks(model: "Predictor", masks: Masks) -> Float[Tensor, "B N"]:
    """What `Cond` carries for masks, with a graph to them; layers without one are left alone."""
    checked(model, dict.fromkeys(masks, [0]))
    known, size = widths(model, "all"), len(next(iter(masks.values()))) if masks else 0
    for name, mask in masks.items():
        if mask.shape != (size, known[name]):
            shape = " x ".join(map(str, mask.shape))
            raise UsageError(f"The mask of {name} is {shape}; give {size} x {known[name]}, one row a sample.")
    rest = torch.zeros(size, 0, device=model.device)
    parts = [masks[n].to(model.device).float() - 1 if n in masks else rest.new_zeros(size, w) for n, w in known.items()]
    return torch.cat(parts, dim=1)


def steer(cond: Cond, gain: Float[Tensor, "B N"]) -> Cond:
    """A conditioning whose samples have their neurons multiplied by 1 + gain, on top of what is ablated already."""
    if len(gain) != (size := len(next(iter(cond.values())))):
        raise UsageError(f"{len(gain)} sets of neurons were given for {size} samples; give one, or one a sample.")
    return {**cond, NEURONS: (1 + cond[NEURONS]) * (1 + gain) - 1 if NEURONS in cond else gain}


def steer_start(start: "Start", gain: Float[Tensor, "B N"], branch: Branch = "both") -> None:
    """Ablate each sample of a sampling that is about to begin, in both of its branches or in the conditional one."""
    null = None
    if branch == "both" and not start.model.family.unguided:
        null = steer(start.null_rows(), gain)
    start.change(cond=steer(start.cond, gain), null=null)


@contextmanager
def ablated(
    model: "Denoiser",
    neurons: Neurons | Sequence[Neurons],
    *,
    factor: int | float = 0.0,
    branch: Branch = "both",
) -> Iterator[None]:
    """Multiply neurons by a factor in every sampling that begins in the block; a sequence has a set for each sample.

    Blocks nest, and their factors multiply. Nothing outside a sampling is touched: for a single forward pass give
    `model.predict` the conditioning `steer(cond, gain(model, sets, factor))`. Raises `UsageError` for layers and
    indices that the model does not have, and for another number of sets than samples.
    """
    sets = [neurons] if isinstance(neurons, Mapping) else list(neurons)
    rows = gain(model, sets, factor)

    def change(start: "Start") -> None:
        steer_start(start, rows.expand(len(start), -1) if isinstance(neurons, Mapping) else rows, branch)

    with model.edit("start", change):
        yield


@contextmanager
def masked(model: "Denoiser", masks: Masks, *, branch: Branch = "both") -> Iterator[None]:
    """Multiply neurons by masks, one row a sample, in every sampling that begins in the block; see `ablated`."""
    rows = gain_of_masks(model, masks)
    with model.edit("start", lambda start: steer_start(start, rows, branch)):
        yield
