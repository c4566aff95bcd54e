"""Wen et al.: how strongly a score depends on each token's embedding."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import Score, about, explainer, fits, scoring, usual_steps

Value = Literal["norm", "signed"]


def per_step(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    value: Value = "norm",
    compat: Literal["wen", "layer6"] | None = None,
) -> Float[Tensor, "steps B L"]:
    """`token_gradients` at each of the chosen steps."""
    trajectory.model.family.tokens(trajectory.prompts[:1])  # refuses models without tokens
    function, indices = scoring(score), trajectory.indices(usual_steps(score) if steps is None else steps)
    function, wen = _released(function) if compat == "layer6" else function, compat is not None
    path = _turned_path(trajectory, indices) if wen and len(indices) > 1 else trajectory
    samples = torch.arange(len(trajectory), device=trajectory.model.device)
    group = _same_prompt(trajectory).to(samples) if wen else samples
    return torch.stack([_of_step(path.with_graph(i), function, value, group, wen) for i in indices])


@explainer(
    paper="arXiv:2407.21720, section 4.1",
    cost="1 evaluation without and 1 with gradient a step and sample",
    per_step=per_step,
)
def token_gradients(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    value: Value = "norm",
    compat: Literal["wen", "layer6"] | None = None,
) -> Float[Tensor, "B L"]:
    """Length of a score's gradient with respect to each token's embedding, ||d score / d c_l||_2.

    The mean over the chosen steps of the true sampling, without `steps` the score's own, in units of the score over
    units of the embedding, from 0 upwards; `value="signed"` gives the inner product of gradient and embedding instead.
    Values compare within one prompt and one score. The embedding is the text that cross-attention reads (SDXL: both
    encoders' side by side); the pooled embedding of SDXL is not covered, that of families known by a row comes after
    the last token, as one position. The unconditional branch has no graph. `compat="wen"` is the gradient of the joint
    norm of a score over all samples of the same prompt, divided by twice their number; it sees and, at the chosen
    steps, follows the prediction that the released code takes for guided, eps_cond + w (eps_uncond - eps_cond), in a
    sampling of its own if there are several steps. `compat="layer6"` is the same with the score's own `compat="layer6"`
    where it has one: of `score_norm` without its division, of `flipd` with the opposite sign of the trace, which the
    exchange of the branches turns; the default has neither fault. Raises `UsageError` for a model without tokens and
    for a score that does not depend on the prompt.
    """
    return per_step(trajectory, score=score, steps=steps, value=value, compat=compat).mean(0)


def _of_step(
    step: Step, function: Callable[..., Tensor], value: Value, group: Int[Tensor, " B"], wen: bool
) -> Float[Tensor, "B L"]:
    family = step.model.family
    names = family.texts if family.has_ends else [n for n in (*family.texts, *family.pooled) if n in step.cond]
    leaves = [step.cond[name] for name in names]
    if wen:
        _turn(step)
    with torch.enable_grad():
        scores = function(step)
        scores = torch.stack([scores[group == g].norm() for g in group.unique()]) if wen else scores
    if not scores.requires_grad:
        raise UsageError("The score does not depend on the prompt there, so that it has no gradient to explain it.")
    gradients = torch.autograd.grad(scores.sum(), leaves)  # of each sample's own score: samples do not mix
    parts = zip(gradients, leaves, strict=True)
    return torch.cat([_valued(g.float(), leaf.detach().float(), value, group, wen) for g, leaf in parts], dim=1)


def _valued(gradient: Tensor, leaf: Tensor, value: Value, group: Int[Tensor, " B"], wen: bool) -> Float[Tensor, "B L"]:
    """The value of each position of a text, or of a pooled vector as one position."""
    if wen:
        samples = torch.bincount(group)[group].to(gradient).view(-1, *[1] * (gradient.ndim - 1))
        gradient = torch.zeros_like(gradient).index_add(0, group, gradient)[group] / (2 * samples)
    values = gradient.norm(dim=-1) if value == "norm" else (gradient * leaf).sum(-1)
    return values[:, None] if values.ndim == 1 else values


def _same_prompt(trajectory: Trajectory) -> Int[Tensor, " B"]:
    names = {prompt: k for k, prompt in enumerate(dict.fromkeys(trajectory.prompts))}
    return torch.tensor([names[prompt] for prompt in trajectory.prompts])


def _released(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A score as layer6's code has it, where that is another than its own."""
    method = about(function)
    own = method.parameters.get("compat") if method is not None else None
    return partial(function, compat="layer6") if own is not None and fits("layer6", own.annotation) else function


def _turn(step: Step) -> None:
    """Guide away from the prompt instead of towards it."""
    step.swapped = True
    step.__dict__.pop("native", None)


def _turned_path(trajectory: Trajectory, targets: list[int]) -> Trajectory:
    """The same sampling, guided away from the prompt at the target steps."""
    model, first = trajectory.model, trajectory.first(1)[0]
    with (
        model.edit("start", lambda start: start.change(x_t=first.x_t, cond=first.cond)),
        model.edit("step", lambda step: _turn(step) if step.index in targets else None),
    ):
        return Trajectory(
            model,
            trajectory.prompts,
            trajectory.seeds,
            num_inference_steps=trajectory.num_inference_steps,
            guidance_scale=trajectory.guidance_scale,
        )
