"""What the embeddings of the begin token, the prompt, the end token and the padding carry."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.model.cond import rows
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import Score, explainer, scoring, usual_steps

KEY = "encoder_hidden_states"
Fill = Literal["zero", "mean"]


def per_step(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    fill: Fill = "zero",
) -> Float[Tensor, "steps B L"]:
    """`embedding_classes` at each of the chosen steps."""
    ends = torch.tensor(trajectory.model.family.ends(trajectory.prompts), device=trajectory.model.device)[:, None]
    function = scoring(score)
    with torch.no_grad():
        chosen = trajectory.chosen(usual_steps(score) if steps is None else steps)
        place = torch.arange(chosen[0].cond[KEY].shape[1], device=ends.device).expand(len(trajectory), -1)
        classes = [place == 0, (place > 0) & (place < ends), place == ends, place > ends]
        return torch.stack([_drops(step, function, classes, fill) for step in chosen])


@explainer(
    paper="arXiv:2605.02908, section 3",
    cost="1 pair of evaluations a sample and step, and at most 4 more",
    per_step=per_step,
)
def embedding_classes(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    fill: Fill = "zero",
) -> Float[Tensor, "B L"]:
    """Drop of a score when all embeddings of a class of tokens are replaced, at each position of the class.

    The classes are the begin token, the prompt's own tokens, the end token, and the padding. They are filled with
    zeros, or with the mean of the prompt's embeddings over all positions. In units of the score, positive where the
    class raises it; the mean over the chosen steps (without `steps` the score's own), each at the x_t of the whole
    prompt. The drop is that of the class as a whole, not of one of its positions: do not add it up. In SDXL the pooled
    embedding stays. Raises `UsageError` for a model without tokens.
    """
    return per_step(trajectory, score=score, steps=steps, fill=fill).mean(0)


def _drops(
    step: Step, score: Callable[..., Tensor], classes: Sequence[Bool[Tensor, "B L"]], fill: Fill
) -> Float[Tensor, "B L"]:
    """The drop of the score when the embeddings of each class are replaced, at the class's positions."""
    whole, drops = score(step), torch.zeros(classes[0].shape, device=step.x_t.device)
    for mask in classes:
        index = mask.any(1).nonzero()[:, 0]  # a full prompt has no padding, an empty one no words
        if len(index):
            embedding = step.cond[KEY][index]
            other = embedding.float().mean(1, keepdim=True).to(embedding.dtype) if fill == "mean" else 0.0
            cond = {**rows(step.cond, index), KEY: torch.where(mask[index][..., None], other, embedding)}
            native_cond = step.model.predict(step.x_t[index], step.t, cond)
            changed = replace(step.select(index), cond=cond, native_cond=native_cond)
            drops[mask] = (whole[index] - score(changed)).repeat_interleave(mask[index].sum(1))
    return drops
