"""The contract of each kind of method, as a function that the author of a method calls in a test of their own."""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnemoscope import planted, registry, stats
from mnemoscope.errors import UsageError
from mnemoscope.methods import by_name
from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.model import ablation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import Method, Parameters

SEEDS = [3, 4]
STEPS = {"vp": 20, "zero-snr": 20, "flow": 40}  # of a sampling of the planted model
PROCESS = "(process)"  # no parameter can have this name


def check(
    method: registry.Name, kind: str, *, is_control: bool = False, process: planted.Process = "vp", **given: Any
) -> None:
    """Raise `AssertionError` with what is wrong if a method breaks the contract of its kind; takes a few seconds.

    `kind` is score, detect, explain, mitigate, caption, localize, measure or signal. Scores, detectors, explanations,
    mitigations and signals are tried on the planted model, under one of its noise `process`es: where that begins at
    pure noise ("zero-snr", "flow") a method that refuses its own step there in one sentence is tried at the one after
    it. `is_control` exempts a detector from telling memorized prompts from ordinary ones. A localizer needs `model=`, a
    measure `comparison=`. Other keywords are the method's parameters.
    """
    if kind not in CHECKS:
        raise UsageError(f"There is no contract for '{kind}'; there is one for {', '.join(CHECKS)}.")
    registered = registry.detection(method) if kind in ("score", "detect") else registry.get(kind, method)
    assert registered.summary or registered.origin, f"{registered.name} says nothing of itself; give it a docstring"
    CHECKS[kind](method, registered, is_control, {**given, PROCESS: process})


def _sampled(method: registry.Name, prompts: Sequence[str], given: Mapping[str, Any]) -> Tensor:
    own, texts = dict(given), [p for p in prompts for _ in SEEDS]
    process = own.pop(PROCESS)
    seeds, steps = SEEDS * len(prompts), STEPS[process]
    trajectory = Trajectory(planted.model(process), texts, seeds, num_inference_steps=steps)
    return by_name.detect(trajectory, method, **own)


def _defined(values: Callable[[Mapping[str, Any]], Tensor], found: Method, given: Mapping[str, Any]) -> Parameters:
    """Parameters under which a method is defined: its own, or the step after pure noise where it refuses that."""
    try:
        values(given)
    except UsageError as e:
        is_refusal = given[PROCESS] != "vp" and "steps" not in given and "pure noise" in str(e)
        assert is_refusal and "\n" not in str(e), f"{found.name} refuses its own step: {e}"
        return {**given, "steps": [1]}
    return dict(given)


def _detects(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    given = _defined(lambda own: _sampled(method, ["memorized 0"], own), registered, given)
    prompts = ["memorized 0", "ordinary 1", "memorized 2", "a photo"]
    whole = _sampled(method, prompts, given)
    assert whole.shape == (len(prompts) * len(SEEDS),), (
        f"{registered.name} gives {tuple(whole.shape)}, not one a sample"
    )
    assert bool(whole.isfinite().all()), f"{registered.name} is not finite everywhere: {whole.tolist()}"
    assert not whole.requires_grad, f"{registered.name} keeps a graph under detect"
    assert torch.equal(whole, _sampled(method, prompts, given)), f"{registered.name} is not the same twice"
    alone = torch.cat([_sampled(method, [p], given) for p in prompts])
    _same(registered, whole, alone, "depends on the batch")
    turned = _sampled(method, prompts[::-1], given).reshape(len(prompts), -1).flip(0).flatten()
    _same(registered, whole, turned, "depends on the order of the batch")
    if not is_control:
        memorized, ordinary = (_per_prompt(method, registered, is_memorized, given) for is_memorized in (True, False))
        auc = stats.auc(memorized, ordinary)
        assert auc == 1, (
            f"{registered.name} does not score memorized prompts of the planted model higher: AUC {auc:.3f}"
        )


def _per_prompt(method: registry.Name, registered: Method, is_memorized: bool, given: Mapping[str, Any]) -> np.ndarray:
    values = _sampled(method, planted.prompts(is_memorized), given).reshape(-1, len(SEEDS)).double()
    return (values.amax(1) if registered.over_seeds == "max" else values.mean(1)).numpy()


def _same(registered: Method, one: Tensor, other: Tensor, how: str) -> None:
    is_close = one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert is_close, f"{registered.name} {how}: {one.flatten()[:4].tolist()} and {other.flatten()[:4].tolist()}"


def _explains(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    def values(prompts: list[str], given: Mapping[str, Any]) -> Tensor:
        own = dict(given)
        process = own.pop(PROCESS)
        trajectory = Trajectory(planted.model(process), prompts, SEEDS[0], num_inference_steps=STEPS[process])
        return by_name.explain(trajectory, method, **own)

    prompts = ["memorized 0", "a photo of ordinary 1"]
    given = _defined(lambda own: values(prompts, own), registered, given)
    whole = values(prompts, given)
    dimensions = 2 if registered.gives == "tokens" else 3
    assert whole.ndim == dimensions and len(whole) == 2, f"{registered.name} gives {tuple(whole.shape)}"
    assert bool(whole.isfinite().all()), f"{registered.name} is not finite everywhere"
    assert is_control or whole[0].unique().numel() > 1, (
        f"{registered.name} gives the same everywhere: {whole[0].flatten()[:4].tolist()}"
    )
    _same(registered, whole, torch.cat([values([p], given) for p in prompts]), "depends on the batch")


def _mitigates(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    own = dict(given)
    model = planted.model(own.pop(PROCESS))

    def drawn() -> Tensor:
        steps = list(model.steps(["memorized 0", "ordinary 1"], SEEDS, num_inference_steps=5, guidance_scale=3.0))
        return torch.stack([step.x_t for step in steps])

    weights, before = _weights(model), drawn()
    with by_name.mitigate(model, method, **own):
        inside = drawn()
    assert bool(inside.isfinite().all()), f"{registered.name} gives samples that are not finite"
    assert not torch.equal(inside, before), f"{registered.name} changes no sample"
    assert _weights(model) == weights, f"{registered.name} leaves other weights behind"
    assert torch.equal(drawn(), before), f"{registered.name} leaves other samples behind"


def _weights(model: Denoiser) -> str:
    state = model.network.state_dict()
    return hashlib.sha256(b"".join(v.detach().cpu().contiguous().numpy().tobytes() for v in state.values())).hexdigest()


def _transforms(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    caption = "a red fox in front of two blue doors"
    own = {k: v for k, v in given.items() if k != PROCESS}
    one, again = (registered.function(caption, random.Random(0), **own) for _ in range(2))
    assert isinstance(one, str), f"{registered.name} gives {type(one).__name__}, not a text"
    assert one == again, f"{registered.name} is not the same for the same generator"


def _locates(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    parameters = {k: v for k, v in given.items() if k != PROCESS}
    model = parameters.pop("model")
    prompts = ["a cat", "a red bicycle"]
    whole = by_name.localize(model, prompts, method, **parameters)
    assert [each.prompt for each in whole] == prompts, f"{registered.name} does not give one entry a prompt"
    for each in whole:
        assert ablation.checked(model, each.neurons) == each.neurons, f"{registered.name} names neurons that are none"
    turned = by_name.localize(model, prompts[::-1], method, **parameters)[::-1]
    assert [e.neurons for e in turned] == [e.neurons for e in whole], (
        f"{registered.name} depends on the order of the batch"
    )


def _measures(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    parameters = {k: v for k, v in given.items() if k != PROCESS}
    comparison = parameters.pop("comparison")
    one, again = (registered.function(comparison, **parameters) for _ in range(2))
    for name, values in one.columns.items():
        assert len(values) == len(comparison.generated), f"{registered.name} has not one {name} an image"
        assert np.array_equal(values, again.columns[name], equal_nan=True), f"{registered.name} is not the same twice"
    assert one.columns or one.summary, f"{registered.name} says nothing"


def _signals(method: registry.Name, registered: Method, is_control: bool, given: Mapping[str, Any]) -> None:
    own = dict(given)
    model = planted.model(own.pop(PROCESS))
    noise = torch.randn(planted.ORDINARY, *model.latent_shape, generator=torch.Generator().manual_seed(SEEDS[0]))
    x_0 = torch.cat([planted.images(), planted.SPREAD * noise])
    captions = [*planted.prompts(True), *planted.prompts(False)]

    def values(which: Sequence[int]) -> Tensor:
        return registered.function(SeenPictures(model, x_0[list(which)], [captions[k] for k in which], SEEDS), **own)

    order = range(len(captions))
    whole = values(order)
    assert whole.ndim == 2 and len(whole) == len(order), f"{registered.name} gives {tuple(whole.shape)}, not [B, F]"
    assert bool(whole.isfinite().all()), f"{registered.name} is not finite everywhere"
    assert not whole.requires_grad, f"{registered.name} keeps a graph"
    assert torch.equal(whole, values(order)), f"{registered.name} is not the same twice"
    _same(registered, whole, torch.cat([values([k]) for k in order]), "depends on the batch")
    _same(registered, whole, values(order[::-1]).flip(0), "depends on the order of the batch")
    members, others = whole[: planted.MEMORIZED], whole[planted.MEMORIZED :]
    tells = is_control or bool((members.amin(0) > others.amax(0)).any())
    assert tells, f"{registered.name} is higher for the planted members at none of its values"


CHECKS: dict[str, Callable[[registry.Name, Method, bool, Mapping[str, Any]], None]] = {
    "score": _detects,
    "detect": _detects,
    "explain": _explains,
    "mitigate": _mitigates,
    "caption": _transforms,
    "localize": _locates,
    "measure": _measures,
    "signal": _signals,
}
