"""What a score loses when a token is left out of the prompt."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.model.words import Token, content, word_spans
from mnemoscope.registry import Score, explainer, scoring, usual_steps

Unit = Literal["token", "word"]


def per_step(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    unit: Unit = "token",
    batch: int = 16,
) -> Float[Tensor, "steps B L"]:
    """`token_occlusion` at each of the chosen steps."""
    if batch < 1:
        raise UsageError(f"token_occlusion got batch={batch}; give 1 or more.")
    model, function = trajectory.model, scoring(score)
    tokens_of = content(model.family, trajectory.prompts)
    cuts = [
        (k, places, text)
        for k, (prompt, tokens) in enumerate(zip(trajectory.prompts, tokens_of, strict=True))
        for places, text in _cuts(prompt, tokens, unit)
    ]
    length = len(model.family.tokens(trajectory.prompts[:1])[0])
    with torch.no_grad():
        chosen = trajectory.chosen(usual_steps(score) if steps is None else steps)
        whole = [function(step) for step in chosen]
        drops = torch.zeros(len(chosen), len(trajectory), length, device=model.device)
        for start in range(0, len(cuts), batch):
            samples, places, texts = zip(*cuts[start : start + batch], strict=True)
            index = torch.tensor(samples, device=model.device)
            cond = model.family.guided(model.encode(texts, chosen[0].x_t.shape[1:]), trajectory.guidance_scale)
            for s, step in enumerate(chosen):
                cut = replace(step.select(index), cond=cond, native_cond=model.predict(step.x_t[index], step.t, cond))
                lost = whole[s][index] - function(cut)
                for k, token_places, value in zip(samples, places, lost, strict=True):
                    drops[s, k, token_places] = value / len(token_places)
    return drops


@explainer(
    paper="arXiv:1612.08220, section 3",
    cost="1 pair of evaluations a sample and step, and 1 more for each token",
    per_step=per_step,
)
def token_occlusion(
    trajectory: Trajectory,
    *,
    score: Score = "noise_norm",
    steps: int | float | str | list | None = None,
    unit: Unit = "token",
    batch: int = 16,
) -> Float[Tensor, "B L"]:
    """Drop of a score when a token's characters are cut out of the prompt, in units of the score.

    Positive where the token raises the score. The mean over the chosen steps (without `steps` the score's own), each at
    the x_t of the whole prompt: only the text changes. The cut prompt is tokenized, encoded and padded anew, by all
    text encoders of the model, so that what is left of a cut word may become other tokens; a word of one token is
    simply left out. `unit="word"` cuts out whole words, and the tokens of a word share its drop. Begin, end and padding
    tokens get 0. Values compare within one score, also between prompts at one timestep. `batch` cut prompts go through
    the network at once. Raises `UsageError` for a model without tokens.
    """
    return per_step(trajectory, score=score, steps=steps, unit=unit, batch=batch).mean(0)


def _cuts(prompt: str, tokens: Sequence[Token], unit: Unit) -> list[tuple[list[int], str]]:
    """Positions of each token or word, and the prompt without it and without what the tokenizer had truncated."""
    places = [t.place for t in tokens]
    single = places == sorted(places)  # else several encoders have tokens of the same characters
    spans: list[tuple[int, ...]] = [(t.start, t.end, k if single else 0) for k, t in enumerate(tokens)]
    spans = [*word_spans(prompt, tokens)] if unit == "word" else spans
    last = max((t.end for t in tokens), default=0)
    return [
        (
            [place for place, other in zip(places, spans, strict=True) if other == span],
            prompt[: span[0]] + prompt[span[1] : last],
        )
        for span in dict.fromkeys(spans)
    ]
