"""Families that are known by a row: text-to-image pipelines beyond Stable Diffusion 1, 2 and XL."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond, joined, rows
from mnemoscope.model.dry import Arguments
from mnemoscope.model.inversion import spelt
from mnemoscope.model.recording import LENGTHS, NESTED, Recording
from mnemoscope.model.spans import Token, tokens_of


class Traced(Recording):
    """A text-to-image pipeline whose class has a row in `mnemoscope.model.rows`: prompts, branches, predictions.

    Its null branch is the pipeline's own; where sampling uses none (guidance is distilled into the network) it is the
    empty prompt under the same guidance.
    """

    has_ends = False

    @property
    def unguided(self) -> str | None:
        return None  # where sampling uses no second branch, the empty prompt under the same guidance still is one

    @property
    def distilled(self) -> str | None:
        return None if self.branches else "its guidance is distilled into the network"

    def guides(self, guidance_scale: float) -> bool:
        return self.branches and guidance_scale > self.row.off

    def combine(self, cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
        return self.row.combine(self.row, cond, uncond, guidance_scale)

    @property
    def state_dtype(self) -> torch.dtype:
        return torch.float32 if self.row.float_state else self.network.dtype

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        return joined([self._encoded(prompt, shape) for prompt in prompts])

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        return rows(self._null(shape), torch.zeros(count, dtype=torch.long))

    def encoded(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        return self.encode(prompts, shape)  # which is kept with the ids that the encoders were given

    def encoded_null(self, count: int, shape: Sequence[int]) -> Cond:
        return self.null(count, shape)

    def _encoded(self, prompt: str, shape: Sequence[int]) -> Cond:
        return self.recorded(prompt, shape)[0]

    def _null(self, shape: Sequence[int]) -> Cond:
        """Conditioning of the pipeline's own second branch; of the empty prompt where it has none."""
        if not self.branches:
            return self._encoded(self.negative_prompt or "", shape)

        def make() -> Cond:
            apart = self.row.calls == "apart"
            self.evaluations += apart  # the first call is carried out to come to the second
            found = self._dry("", guided=True, shape=shape, number=2 if apart else 1).arguments
            return self.conditioning(found, int(self.row.calls == "cond first"))

        return self.kept(("null", self.negative_prompt, *shape[-2:], *self.state()), make)

    def spans(self, prompts: Sequence[str]) -> list[list[Token]]:
        """Tokens of each prompt by all encoders whose embeddings have a position for each; first by their characters.

        Positions count through all texts, then through the pooled vectors.
        """
        return [sorted(self._tokens(prompt), key=lambda token: (token.start, token.place)) for prompt in prompts]

    def _tokens(self, prompt: str) -> list[Token]:
        (cond, ids), (_, empty) = (self.recorded(text, self.latent_shape) for text in (prompt, ""))
        lengths = [cond[name].shape[1] for name in self.texts]
        found = []
        for encoded in self.row.encoded:
            if encoded.encoder in ids:
                which = self.texts.index(encoded.text)
                given = (ids[encoded.encoder], empty[encoded.encoder], encoded, self.pipe)
                (said,) = spelt(self.pipe, [prompt], getattr(self.pipe, encoded.tokenizer))
                own = tokens_of(said.text, *given, lengths[which], sum(lengths[:which]))
                found += [Token(t.text, *said.span(t.start, t.end), t.place) for t in own]
        return found

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        """Texts of each prompt's own tokens at their positions, then the names of the pooled vectors; "" elsewhere."""
        cond = self._encoded("", self.latent_shape)
        blank = [""] * sum(cond[name].shape[1] for name in self.texts) + [n for n in self.pooled if n in cond]
        rows = [list(blank) for _ in prompts]
        for row, own in zip(rows, self.spans(prompts), strict=True):
            for token in own:
                row[token.place] = token.text
        return rows

    def ends(self, prompts: Sequence[str]) -> list[int]:
        raise UsageError(f"The text of a {self.name} model has no single end token, which this method needs.")

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        if "guidance" not in cond:
            return cond
        return {**cond, "guidance": torch.full_like(cond["guidance"], guidance_scale)}

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        if self.row.ragged == "groups":
            return self._predict_groups(x_t, t, cond)
        return self._predict(x_t, t, self._cut(cond))

    def _predict_groups(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """A call for each length of text: this network sees the padding, so that lengths must not mix."""
        times, lengths = t.to(x_t.device).expand(len(x_t)), cond[LENGTHS]
        groups = [(lengths == n).nonzero()[:, 0] for n in lengths.unique()]
        if len(groups) == 1:
            return self._predict(x_t, t, self._cut(cond))
        parts = [self._predict(x_t[g], times[g], self._cut(rows(cond, g))) for g in groups]
        return torch.cat(parts)[torch.cat(groups).argsort()]

    def _cut(self, cond: Cond) -> Arguments:
        """What the network takes of a batch: padded texts cut to the longest, or to each one's own length."""
        given: Arguments = dict(cond)
        if not self.row.ragged:
            return given
        (name,), lengths = self.row.texts, given.pop(LENGTHS)
        most = int(lengths.max())
        if self.row.ragged == "list":
            given[name] = [text[:n] for text, n in zip(given[name], lengths.tolist(), strict=True)]
            return given
        given[name] = given[name][:, :most]
        if self.row.ragged == "mask" and bool((lengths < most).any()):
            given[f"{name}_mask"] = torch.arange(most, device=lengths.device) < lengths[:, None]
        return given

    def _predict(self, x_t: Tensor, t: Tensor, cond: Arguments) -> Float[Tensor, "B C h w"]:
        row, network = self.row, self.network
        given = dict(self.shared(x_t.shape))
        if nested := given.get(NESTED):
            given[NESTED] = {**nested, **{k: cond.pop(k) for k in nested if k in cond}}
        given |= {name: list(given[name]) * len(x_t) for name in row.repeated} | cond
        times = row.time(t.to(x_t.device).expand(len(x_t)), x_t.dtype, self.pipe)
        given |= {row.x: row.packing.pack(x_t.to(network.dtype)), row.t: times, "return_dict": False}
        return self.native(network(**given)[0], x_t.shape)

    def native(self, output: Any, shape: Sequence[int]) -> Float[Tensor, "B C h w"]:
        """The prediction that the solver takes, of what the network gives."""
        row = self.row
        output = row.packing.unpack(output, shape)[:, : shape[-3]]  # a learnt variance beside it is not the solver's
        output = output.float() if row.floats else output
        return -output if row.sign < 0 else output

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        return self.row.decode(self.pipe, latents)
