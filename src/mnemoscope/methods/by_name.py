"""Methods by name: what `mnemoscope.detect` and its like do with a trajectory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.methods.gate import Gate, apply
from mnemoscope.methods.located import Located
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.start import Start
from mnemoscope.model.step import Seen
from mnemoscope.model.trajectory import Steps, Trajectory


@overload
def detect(
    trajectory: Trajectory, method: registry.Name, *, steps: Steps | None = None, **parameters: Any
) -> Float[Tensor, " B"]: ...
@overload
def detect(
    trajectory: Trajectory, method: Sequence[registry.Name], *, steps: Steps | None = None, **parameters: Any
) -> dict[str, Float[Tensor, " B"]]: ...
def detect(
    trajectory: Trajectory,
    method: registry.Name | Sequence[registry.Name],
    *,
    steps: Steps | None = None,
    **parameters: Any,
) -> Float[Tensor, " B"] | dict[str, Float[Tensor, " B"]]:
    """Score of each sample by a method's name, higher = more memorized; a score is averaged over the chosen steps.

    `steps` is a number n for the first n sampling steps, a share below 1 for the one there, "all", "last", or a list of
    indices; without it the score's own choice. The other parameters are the method's own. Several methods give one
    entry each, by name, and share the trajectory's steps; `**{"method.name": value}` is a parameter of one of them.
    Raises `UsageError` for a method, a parameter or a step that there is not.
    """
    if not isinstance(method, str) and isinstance(method, Sequence):
        return _detect_each(trajectory, method, parameters if steps is None else {**parameters, "steps": steps})
    registered = registry.detection(method)
    if registered.kind == "score":
        return series(trajectory, method, steps=steps, **parameters).mean(dim=0)
    if steps is not None:
        raise UsageError(f"detect method '{registered.name}' chooses its steps itself; leave out steps.")
    return registered.function(trajectory, **registry.checked(registered, parameters))


def _detect_each(
    trajectory: Trajectory, methods: Sequence[registry.Name], parameters: registry.Parameters
) -> dict[str, Float[Tensor, " B"]]:
    listed = [registry.detection(method) for method in methods]
    own = registry.parted(listed, parameters)
    every = list(zip(listed, methods, own, strict=True))
    every.sort(key=lambda each: each[0].kind != "score")  # a detector may take steps with a graph, whose digits differ
    values = {found.name: detect(trajectory, method, **given) for found, method, given in every}
    return {found.name: values[found.name] for found in listed}


def series(
    trajectory: Trajectory, method: registry.Name, *, steps: Steps | None = None, **parameters: Any
) -> Float[Tensor, "steps B"]:
    """A score's value at each of the chosen steps, for each sample."""
    registered = registry.get("score", method)
    registry.checked(registered, parameters, extra=("steps",))
    steps = registered.steps if steps is None else steps
    with torch.no_grad():
        return torch.stack([registered.function(step, **parameters) for step in trajectory.chosen(steps)])


def explain(
    trajectory: Trajectory, method: registry.Name, *, score: registry.Score | None = None, **parameters: Any
) -> Float[Tensor, "B L"] | Float[Tensor, "B h w"]:
    """What each token contributes to a score, or each latent pixel to what was memorized; one row or map a sample.

    By the method it is one value a token position, the first one included, or one a pixel of the latents. `score`, for
    methods that look at one, is a score's name, or any function of a step; `score.name=value` among the parameters sets
    a parameter of it. The other parameters, `steps` among them, are the method's own. Raises `UsageError` as `detect`
    does.
    """
    registered = registry.get("explain", method)
    given = registry.with_score(registered, {**parameters, **({} if score is None else {"score": score})})
    return registered.function(trajectory, **registry.checked(registered, given))


def localize(
    model: Denoiser, prompts: Sequence[str] | str, method: registry.Name = "neurons", **parameters: Any
) -> list[Located]:
    """Neurons that each prompt's memorization needs, one entry a prompt; see `mnemoscope.localizers`.

    Raises `UsageError` as `detect` does.
    """
    registered = registry.get("localize", method)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    return registered.function(model, texts, **registry.checked(registered, parameters))


@contextmanager
def mitigate(
    model: Denoiser, method: registry.Name, *, threshold: int | float | str | Path | None = None, **parameters: Any
) -> Iterator[list[Seen]]:
    """Mitigate every sampling that begins while the block is open; yields a list of what was seen and done.

    The list gets one dictionary for each sample, in order. With a `threshold`, a number that noise_norm is compared
    with ("40:x0" where it needs a unit) or the summary of a detection, only samples whose first step passes it are
    touched, and all others stay as they are bit for bit. Mitigations nest, and the inner one acts last. Raises
    `UsageError` as `detect` does.
    """
    registered = registry.stopping(method)
    given = registry.with_score(registered, parameters)
    registry.checked(registered, given)
    gate = None if threshold is None else Gate.of(threshold)
    log: list[Seen] = []

    def change(start: Start) -> None:
        apply(registered, given, start, gate)
        log.extend(start.seen)

    with model.edit("start", change):
        yield log
