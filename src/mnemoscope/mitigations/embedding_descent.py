"""Wen et al.: descend a score on the prompt's embedding before sampling begins."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, aimed
from mnemoscope.methods.descent import descend
from mnemoscope.model.cond import rows
from mnemoscope.model.start import Start, distinct
from mnemoscope.model.words import content
from mnemoscope.registry import Score, mitigation

Tokens = Literal["content", "content+eos", "all-but-bos"]


@mitigation(
    paper="arXiv:2407.21720, section 4.2",
    cost="1 evaluation without and at most `iterations` + 1 with gradient an image",
    strength=("target", (2.5, 2.0, 1.5, 1.0, 0.7, 0.5)),
)
def embedding_descent(
    start: Start,
    *,
    score: Score = "noise_norm",
    target: int | float | str | Amount | None = None,
    lr: float = 0.05,
    iterations: int = 30,
    tokens: Tokens = "all-but-bos",
    weight_decay: int | float | None = None,
    epsilon: int | float | None = None,
    target_step: int = 0,
    compat: Literal["wen"] | None = None,
) -> None:
    """Moves each image's prompt embedding down a score's gradient by AdamW until the score is at most the target.

    Every image has an embedding and a target of its own, tested before the first update and after each one, so that
    the embedding used is a tested one; without a target all `iterations` are made. A target needs the unit of the push,
    "40:x0", where the noise schedule begins at pure noise. Once the mean L2 shift of the
    tokens exceeds `epsilon`, that shift makes half of the loss. `target_step` is the sampling step that the score is
    taken at, and `tokens` are those that may move. `compat="wen"` descends the joint norm over a prompt's images on
    one embedding, tests before updates only, and has AdamW's weight decay of 0.01, which moves the first token too.
    `lr` is in units of the embedding, as in the paper; for families known by a row, whose embeddings differ in size by
    a factor of 30, in units of its root mean square. Where a model has several texts the first one moves; pooled
    vectors stay. Raises `UsageError` for a model without a text embedding.
    """
    key = start.model.family.texts[0]
    if key not in start.cond:
        raise UsageError("embedding_descent moves a text embedding, and this model has none.")
    if iterations < 1 or lr <= 0:
        raise UsageError(f"embedding_descent got iterations={iterations} and lr={lr}; give 1 or more, and above 0.")
    wen = compat == "wen"
    if weight_decay is None:
        weight_decay = 0.01 if wen else 0.0
    samples = torch.arange(len(start), device=start.x_t.device)
    first, group = distinct(start.cond[key]) if wen else (samples, samples)
    function, limit = aimed(score, target, start.model)
    look = _Look(start, function, target_step, group, joint=wen)
    begun = start.cond[key].detach().float()[first]
    scale = None if start.model.family.has_ends else _size(begun)  # then the shift is what moves, in units of it

    def whole(x: Tensor, going: Tensor) -> Tensor:
        return x if scale is None else begun[going] + scale[going] * x

    moved, history = descend(
        begun if scale is None else torch.zeros_like(begun),
        lambda x, going: look(whole(x, going), going),
        target=limit,
        lr=lr,
        iterations=iterations,
        weight_decay=weight_decay,
        movable=movable(start, tokens)[first][..., None],
        decay_all=wen,
        penalty=None if epsilon is None else _shift_penalty(begun, epsilon, whole),
        test_last=not wen,
    )
    known = None
    if target_step == 0 and not wen and look.uncond is not None:  # the last test was the first step itself
        known = (look.native_cond, look.uncond)
    embedding = whole(moved, torch.arange(len(moved), device=moved.device))
    start.change(cond={**start.cond, key: embedding[group].to(start.cond[key].dtype)}, known=known)
    for seen, g in zip(start.seen, group.tolist(), strict=True):
        seen["embedding_descent"] = {"score": history[g]}


class _Look:
    """The score of each embedding, over all the images that it draws; keeps the last predictions."""

    def __init__(
        self, start: Start, score: Callable[..., Tensor], index: int, group: Int[Tensor, " B"], joint: bool
    ) -> None:
        self.start, self.score, self.index, self.group, self.joint = start, score, index, group, joint
        self.x_t, self.t = start.state(index)
        self.uncond = None if start.model.family.unguided else start.native_uncond(self.x_t, self.t)
        self.native_cond = torch.empty_like(self.x_t)

    def __call__(self, embedding: Float[Tensor, "G L D"], going: Int[Tensor, " G"]) -> Float[Tensor, " G"]:
        images, place = (self.group[:, None] == going).nonzero(as_tuple=True)
        old = rows(self.start.cond, images)
        key = self.start.model.family.texts[0]
        cond = {**old, key: embedding[place].to(old[key].dtype)}
        step = self.start.observe(
            self.x_t[images],
            cond,
            self.t,
            self.index,
            native_uncond=None if self.uncond is None else self.uncond[images],
            samples=images,
        )
        self.native_cond[images] = step.native_cond.detach()
        values = self.score(step)
        if not self.joint:
            return values
        return torch.zeros(len(going), device=values.device).index_add(0, place, values.square()).sqrt()


def movable(start: Start, tokens: Tokens) -> Bool[Tensor, "B L"]:
    """Which tokens may move; never the first one."""
    text = start.cond[start.model.family.texts[0]]
    count, length = text.shape[:2]
    place = torch.arange(length, device=text.device).expand(count, length)
    if not start.model.family.has_ends:
        return _movable_of_spans(start, tokens, length).to(text.device)
    if tokens == "all-but-bos":
        return place > 0
    ends = start.ends().to(place.device)[:, None]
    return (place > 0) & ((place <= ends) if tokens == "content+eos" else (place < ends))


def _movable_of_spans(start: Start, tokens: Tokens, length: int) -> Bool[Tensor, "B L"]:
    """The same where a template may stand around the words: what follows them is their end."""
    may_move = torch.full((len(start), length), tokens == "all-but-bos")
    for row, tokens_of in zip(may_move, content(start.model.family, start.texts()), strict=True):
        places = [t.place for t in tokens_of if t.place < length]
        if tokens == "all-but-bos":
            row[0] = 0 in places
        else:
            row[places] = True
            row[[p + 1 for p in places[-1:] if tokens == "content+eos" and p + 1 < length]] = True
    return may_move


def _size(text: Float[Tensor, "B L D"]) -> Float[Tensor, "B 1 1"]:
    """Root mean square of each sample's embedding over the positions that are not padded with zeros."""
    square = text.detach().float().square()
    there = square.sum(2).gt(0).sum(1).clamp(min=1)
    return (square.sum((1, 2)) / (there * text.shape[2])).sqrt()[:, None, None]


def _shift_penalty(
    begun: Tensor, epsilon: int | float, whole: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def penalised(moved: Tensor, going: Tensor, values: Tensor) -> Tensor:
        shift = (whole(moved, going) - begun[going])[:, 1:].norm(dim=2).mean(1)
        return torch.where(shift > epsilon, (values + shift) / 2, values)

    return penalised
