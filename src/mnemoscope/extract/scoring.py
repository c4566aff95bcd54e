"""One-step scores of many prompts at one x_T, for one evaluation each: the unconditional prediction is made once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mnemoscope import registry
from mnemoscope.model.cond import Cond
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.step import Step
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.extract_rows import ExtractRow

POOLED = 4  # pixels of a side of a sketch


@dataclass(frozen=True)
class FirstLook:
    """The first step of a sampling without a prompt, to hold prompts against at the same x_T."""

    seed: int
    num_inference_steps: int
    guidance_scale: int | float
    native_uncond: Float[Tensor, "1 C h w"]

    @classmethod
    def at(cls, model: Denoiser, seed: int, num_inference_steps: int, guidance_scale: int | float) -> "FirstLook":
        """One evaluation; raises `UsageError` for a model without an unconditional branch."""
        sampler = model.sampler(num_inference_steps, guidance_scale)
        _, start, _ = sampler.begin([""], [seed])
        with torch.no_grad():
            native = model.predict_null(start.x_t, sampler.timesteps[0], guidance_scale=guidance_scale)
        return cls(seed, num_inference_steps, guidance_scale, native)

    def step(self, model: Denoiser, prompts: list[str], *, graph: bool = False) -> Step:
        """The first step of each prompt; with a graph from its prediction to `step.cond`, which then has leaves."""
        sampler = model.sampler(self.num_inference_steps, self.guidance_scale)
        _, start, _ = sampler.begin(prompts, [self.seed] * len(prompts))
        cond: Cond = sampler.leaves(start.cond) if graph else start.cond
        t = sampler.timesteps[0]
        with torch.set_grad_enabled(graph):
            native = model.predict(start.x_t, t, cond)
        uncond = self.native_uncond.to(native).expand_as(native)
        return sampler.made(0, t, start.x_t, cond, native, lambda: uncond, start.null)


def score_rows(model: Denoiser, look: FirstLook, score: str, floor: float, prompts: list[Prompt]) -> list[ExtractRow]:
    """A row for each prompt: its score and, from `floor` on, the direction of its push."""
    step = look.step(model, [p.text for p in prompts])
    values = registry.scoring(score)(step).double().tolist()
    sketches = sketch(step) if max(values) >= floor else None
    rows: list[ExtractRow] = []
    for k, (prompt, value) in enumerate(zip(prompts, values, strict=True)):
        row: ExtractRow = {
            "id": prompt.id,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "stage": "score",
            "score": value,
            "status": "ok",
        }
        if sketches is not None and value >= floor:
            row["sketch"] = [round(v, 3) for v in sketches[k].tolist()]
        rows.append(row)
    return rows


def sketch(step: Step) -> Float[Tensor, "B D"]:
    """Direction of the text's push at few pixels, of length 1: alike for prompts that call up the same image."""
    small = adaptive_avg_pool2d(step.pushed(), POOLED).flatten(1)
    return small / small.norm(dim=1, keepdim=True).clamp_min(1e-12)
