"""The text embeddings of a batch, those of several encoders side by side, in units in which a step means the same."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.families import Family


class TextEmbeddings:
    """All numbers of a sample's text embeddings as one row, which a search moves; pooled vectors are not among them.

    A row counts from the embedding itself, in units of its root mean square, for families known by a row, whose
    embeddings differ in size by a factor of 30. For the others it is the embedding. `there` marks what is not padded
    with zeros, as such families do. `purpose` begins the sentence for a model without a text embedding.
    """

    def __init__(self, family: Family, cond: Cond, purpose: str) -> None:
        self.names = [name for name in family.texts if name in cond]
        if not self.names:
            raise UsageError(f"{purpose} a text embedding, and this model has none.")
        texts = [cond[name].detach().float() for name in self.names]
        self.shapes = [text.shape[1:] for text in texts]
        self.plain = torch.cat([text.flatten(1) for text in texts], 1)
        own = family.has_ends
        self.begun = self.plain if own else torch.zeros_like(self.plain)
        self.origin = torch.zeros_like(self.plain) if own else self.plain
        there = [torch.ones_like(t, dtype=torch.bool) if own else t.ne(0).any(2, keepdim=True) for t in texts]
        sizes = [torch.ones_like(t) if own else _size(t, on) for t, on in zip(texts, there, strict=True)]
        self.there, self.unit = (
            torch.cat([part.expand_as(t).flatten(1) for part, t in zip(parts, texts, strict=True)], 1)
            for parts in (there, sizes)
        )

    @property
    def length(self) -> int:
        """Positions of all texts together."""
        return sum(shape[0] for shape in self.shapes)

    def at(self, moved: Float[Tensor, "G N"], samples: Any = slice(None)) -> Float[Tensor, "G N"]:
        """The embeddings that rows of some of the samples stand for."""
        return self.origin[samples] + self.unit[samples] * moved

    def parts(self, rows: Float[Tensor, "G N"]) -> list[Float[Tensor, "G L D"]]:
        """Rows of embeddings as one tensor a text."""
        sizes = [shape.numel() for shape in self.shapes]
        parts = rows.split(sizes, dim=1)
        return [part.unflatten(1, tuple(shape)).contiguous() for part, shape in zip(parts, self.shapes, strict=True)]

    def into(self, cond: Cond, rows: Float[Tensor, "G N"]) -> dict[str, Tensor]:
        """A conditioning with these embeddings in the place of its own."""
        named = zip(self.names, self.parts(rows), strict=True)
        return {**cond, **{name: part.to(cond[name].dtype) for name, part in named}}

    def each_number(self, positions: Bool[Tensor, "B L"]) -> Bool[Tensor, "B N"]:
        """What is true of positions, counted through all texts, for each number there."""
        marks = positions.split([shape[0] for shape in self.shapes], dim=1)
        return torch.cat([m.repeat_interleave(s[1], dim=1) for m, s in zip(marks, self.shapes, strict=True)], 1)


def _size(text: Float[Tensor, "B L D"], there: Bool[Tensor, "B L 1"]) -> Float[Tensor, "B 1 1"]:
    """Root mean square of each sample's embedding over the positions that are not padded with zeros."""
    count = there.sum((1, 2)).clamp(min=1) * text.shape[2]
    return (text.square().sum((1, 2)) / count).sqrt()[:, None, None]
