"""Wen et al.: descend a score on the prompt's embedding before sampling begins."""

from collections.abc import Callable
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, aimed
from mnemoscope.methods.descent import descend
from mnemoscope.model.cond import rows
from mnemoscope.model.start import Start, distinct
from mnemoscope.model.text_embeddings import TextEmbeddings
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
    a factor of 30, in units of its root mean square. Where a model has several texts all of them move; pooled vectors
    stay. Raises `UsageError` for a model without a text embedding.
    """
    if iterations < 1 or lr <= 0:
        raise UsageError(f"embedding_descent got iterations={iterations} and lr={lr}; give 1 or more, and above 0.")
    first, group = _groups(start, compat == "wen")
    texts = TextEmbeddings(start.model.family, rows(start.cond, first), "embedding_descent moves")
    if weight_decay is None:
        weight_decay = 0.01 if compat == "wen" else 0.0
    function, limit = aimed(score, target, start.model)
    look = _Look(start, function, texts, target_step, group, joint=compat == "wen")
    moved, history = descend(
        texts.begun,
        lambda x, going: look(texts.at(x, going), going),
        target=limit,
        lr=lr,
        iterations=iterations,
        weight_decay=weight_decay,
        movable=texts.each_number(movable(start, tokens)[first]),
        decay_all=compat == "wen",
        penalty=None if epsilon is None else _shift_penalty(texts, epsilon),
        test_last=compat != "wen",
    )
    known = None
    if target_step == 0 and compat != "wen" and look.uncond is not None:  # the last test was the first step itself
        known = (look.native_cond, look.uncond)
    start.change(cond=texts.into(start.cond, texts.at(moved)[group]), known=known)
    for seen, g in zip(start.seen, group.tolist(), strict=True):
        seen["embedding_descent"] = {"score": history[g]}


def _groups(start: Start, joint: bool) -> tuple[Int[Tensor, " G"], Int[Tensor, " B"]]:
    """The first sample of each embedding that is moved, and which one each sample has: its own, or its prompt's."""
    names = [name for name in start.model.family.texts if name in start.cond]
    if joint and names:
        return distinct(torch.cat([start.cond[name].flatten(1) for name in names], 1))
    samples = torch.arange(len(start), device=start.x_t.device)
    return samples, samples


class _Look:
    """The score of each embedding, over all the images that it draws; keeps the last predictions."""

    def __init__(
        self,
        start: Start,
        score: Callable[..., Tensor],
        texts: TextEmbeddings,
        index: int,
        group: Int[Tensor, " B"],
        joint: bool,
    ) -> None:
        self.start, self.score, self.texts, self.joint = start, score, texts, joint
        self.index, self.group = index, group
        self.x_t, self.t = start.state(index)
        self.uncond = None if start.model.family.unguided else start.native_uncond(self.x_t, self.t)
        self.native_cond = torch.empty_like(self.x_t)

    def __call__(self, embedding: Float[Tensor, "G N"], going: Int[Tensor, " G"]) -> Float[Tensor, " G"]:
        images, place = (self.group[:, None] == going).nonzero(as_tuple=True)
        cond = self.texts.into(rows(self.start.cond, images), embedding[place])
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
    """Which positions, counted through all texts, may move; never the first one."""
    texts = [start.cond[name] for name in start.model.family.texts if name in start.cond]
    lengths = [text.shape[1] for text in texts]
    if not start.model.family.has_ends:
        return _movable_of_spans(start, tokens, lengths).to(start.x_t.device)
    place = torch.arange(lengths[0], device=start.x_t.device).expand(len(start), lengths[0])
    if tokens == "all-but-bos":
        return place > 0
    ends = start.ends().to(place.device)[:, None]
    return (place > 0) & ((place <= ends) if tokens == "content+eos" else (place < ends))


def _movable_of_spans(start: Start, tokens: Tokens, lengths: list[int]) -> Bool[Tensor, "B L"]:
    """The same where a template may stand around the words: what follows an encoder's tokens is their end."""
    begins = list(accumulate(lengths, initial=0))
    may_move = torch.full((len(start), begins.pop()), tokens == "all-but-bos")
    for row, tokens_of in zip(may_move, content(start.model.family, start.texts()), strict=True):
        places = {t.place for t in tokens_of}
        if tokens == "all-but-bos":
            row[begins] = torch.tensor([begin in places for begin in begins])
            continue
        row[sorted(places)] = True
        if tokens == "content+eos":
            row[sorted({p + 1 for p in places} - {*begins, len(row)})] = True
    return may_move


def _shift_penalty(texts: TextEmbeddings, epsilon: int | float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def penalised(moved: Tensor, going: Tensor, values: Tensor) -> Tensor:
        shifts = texts.parts(texts.at(moved, going) - texts.plain[going])
        shift = torch.cat([part[:, 1:].norm(dim=2) for part in shifts], 1).mean(1)
        return torch.where(shift > epsilon, (values + shift) / 2, values)

    return penalised
