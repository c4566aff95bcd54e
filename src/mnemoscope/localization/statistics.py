"""How strongly each neuron answers prompts: mean and standard deviation of its activation over a list of them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.job.batching import chunks, content_hash
from mnemoscope.localization import statistics_files
from mnemoscope.model import ablation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import edit_output
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import differing

TEXTS = 64  # prompts that go through the text encoder at once
ByLayer = dict[str, Tensor]


@torch.no_grad()
def activations(model: Denoiser, prompts: Sequence[str], which: ablation.Layers = "seven") -> ByLayer:
    """Mean over all token positions of |value projection of the text|, [prompts, neurons] by layer, in float32.

    A U-Net's values depend on the text alone, so that the network itself is not evaluated. A transformer's are those of
    its first step at the noise of seed 0, at one evaluation a prompt.
    """
    if not model.family.has_ends:
        return _of_first_step(model, prompts, list(ablation.layers(model, which)))
    hidden = model.encode(list(prompts))["encoder_hidden_states"].float()
    return {name: _full(layer)(hidden).abs().mean(1).cpu() for name, layer in ablation.layers(model, which).items()}


def _of_first_step(model: Denoiser, prompts: Sequence[str], names: Sequence[str]) -> ByLayer:
    sampler = model.sampler(2, 1.0)
    _, start, _ = sampler.begin(list(prompts), [0] * len(prompts))
    seen: ByLayer = {}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def look(values: Tensor) -> Tensor:
            seen[name] = values.float().abs().mean(1).cpu()
            return values

        return look

    with edit_output(model.network, {name: keep(name) for name in names}):
        model.predict(start.x_t, start.t, start.cond)
    return seen


def _full(layer: nn.Module) -> nn.Module:
    """A layer in float32."""
    numbers = {p.dtype for p in layer.parameters()}
    return layer if numbers == {torch.float32} else copy.deepcopy(layer).float()


@dataclass(frozen=True)
class Statistics:
    """Mean and unbiased standard deviation of each neuron's activation, in float64, by layer.

    `count` is the number of prompts (None where a file does not say), `about` what they were computed on.
    """

    mean: ByLayer
    sd: ByLayer
    count: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def joined(self, values: Mapping[str, Tensor]) -> "Statistics":
        """These statistics with those of more prompts, the same in whatever order they come."""
        n = len(next(iter(values.values())))
        more = {name: v.double() for name, v in values.items()}
        mean = {name: v.mean(0) for name, v in more.items()}
        squares = {name: (v - mean[name]).square().sum(0) for name, v in more.items()}
        m = self.count or 0
        if m:
            shift = {name: mean[name] - self.mean[name] for name in mean}
            known = {name: self.sd[name].square() * (m - 1) for name in mean} if m > 1 else dict.fromkeys(mean, 0.0)
            squares = {k: squares[k] + known[k] + shift[k].square() * n * m / (n + m) for k in mean}
            mean = {name: self.mean[name] + shift[name] * n / (n + m) for name in mean}
        sd = {name: (s / max(1, n + m - 1)).sqrt() for name, s in squares.items()}
        return Statistics(mean, sd, n + m, self.about)

    def deviations(self, values: Mapping[str, Tensor]) -> ByLayer:
        """How many standard deviations each activation is from the mean, whichever way."""
        return {name: (v.double() - self.mean[name]).abs() / self.sd[name] for name, v in values.items()}


def measure(
    model: Denoiser,
    prompts: Sequence[str],
    which: ablation.Layers = "seven",
    *,
    begun: Statistics | None = None,
    keep: Callable[[Statistics], None] = lambda statistics: None,
) -> Statistics:
    """Statistics over prompts, 64 at a time; `keep` gets those of each part, from which `begun` goes on later.

    Costs no network evaluation. Raises `UsageError` for fewer than two prompts, and for one without finite activations.
    """
    if len(prompts) < 2:
        raise UsageError(f"Statistics need 2 prompts or more, and {len(prompts)} was given; give hundreds.")
    joined = begun or Statistics({}, {}, 0, described(model, prompts, which))
    for batch in chunks(list(prompts)[joined.count or 0 :], TEXTS):
        joined = joined.joined(_usual(model, batch, which))
        keep(joined)
    return joined


def _usual(model: Denoiser, prompts: Sequence[str], which: ablation.Layers) -> ByLayer:
    """Activations that statistics are made of; raises `UsageError` for a prompt whose own are no numbers."""
    found = activations(model, prompts, which)
    for k, prompt in enumerate(prompts):
        if not all(values[k].isfinite().all() for values in found.values()):
            what = f"The activations of '{prompt[:60]}' are no finite numbers, which would spoil all statistics"
            raise UsageError(f"{what}; leave that prompt out, or load the model with --dtype float32.")
    return found


def raw(model: Denoiser, prompts: Sequence[str], which: ablation.Layers = "seven") -> ByLayer:
    """Activations of every prompt, [prompts, neurons] by layer, in float32; costs no network evaluation of a U-Net."""
    with Progress(transient=True) as bar:
        parts = [_usual(model, batch, which) for batch in bar.track(list(chunks(list(prompts), TEXTS)))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def described(model: Denoiser, prompts: Sequence[str], which: ablation.Layers) -> Json:
    """What statistics belong to: the model, the layers, and the prompts by a hash."""
    known = model.describe()
    identity = {k: known[k] for k in ("source", "family", "weights")}
    return {**identity, "layers": which, "prompts": content_hash(prompts), "number": len(prompts)}


def given(model: Denoiser, statistics: "Statistics | str | Path | None", which: ablation.Layers) -> Statistics:
    """Statistics as they are, or of a file; raises `UsageError` for none, and for those of another model."""
    if statistics is None:
        raise UsageError(
            "Unusual activations need statistics of usual ones; make them with mnemoscope localize statistics, "
            "give ordinary prompts as --negatives, or set initial_theta to null."
        )
    if isinstance(statistics, Statistics):
        check(model, statistics, which)
        return statistics
    return load(model, statistics, which)


def load(model: Denoiser, file: Path | str, which: ablation.Layers = "seven") -> Statistics:
    """Statistics from a file of ours or from NeMo's .pt; raises `UsageError` if they are of other layers or weights."""
    mean, sd, count, about = statistics_files.read(Path(file), list(ablation.widths(model, which)))
    statistics = Statistics(mean, sd, count, about)
    check(model, statistics, which, str(file))
    return statistics


def check(model: Denoiser, statistics: Statistics, which: ablation.Layers, where: str = "the statistics given") -> None:
    """Raise `UsageError` unless the statistics are of this model's layers."""
    for name, width in ablation.widths(model, which).items():
        if name not in statistics.mean:
            raise UsageError(f"{where} lacks the layer {name}; compute statistics with --layers {which}.")
        if len(statistics.mean[name]) != width:
            has = f"{len(statistics.mean[name])} neurons in {name}, and this model has {width}"
            raise UsageError(f"{where} has {has}; compute the statistics of this model.")
    theirs, ours = statistics.about.get("weights"), model.weights_hash
    if theirs not in (None, ours):
        raise UsageError(f"{where} is of other weights ({theirs}, and these are {ours}); compute them for this model.")
    if (statistics.count or 2) < (statistics.about.get("number") or 0):
        done = f"{statistics.count} of {statistics.about['number']} prompts"
        raise UsageError(f"{where} is unfinished ({done}); give the same statistics command again.")


def begun(file: Path, about: Mapping[str, Any]) -> Statistics:
    """What an interrupted computation left in its file; raises `UsageError` if it was another one."""
    mean, sd, count, there = statistics_files.read(file, [])
    if changed := differing(there, dict(about)):
        raise UsageError(f"{file} holds other statistics ({changed}); use --overwrite or another --out.")
    return Statistics(mean, sd, count, there)


def save(statistics: Statistics, file: Path) -> None:
    """Write statistics as safetensors, whole or not at all."""
    statistics_files.write(file, statistics.mean, statistics.sd, statistics.count, statistics.about)
