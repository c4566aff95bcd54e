"""Which tokens may stand at a place of a prompt: as those before have scored, by a gradient, or by a language model."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.extract.scoring import FirstLook
from mnemoscope.extract.vocabulary import Vocabulary
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.masked import masked_language_model

EXPLORED = 0.5  # share of tokens that are drawn alike, whatever they scored
ENCODED = 64  # tokens that are encoded at once


@runtime_checkable
class Proposes(Protocol):
    """Tokens for a place of a prompt; `costs` is how many evaluations a call takes."""

    costs: int

    def __call__(self, rng: random.Random, ids: Sequence[int], place: int, count: int) -> list[int]: ...


class Worth:
    """What each token added to the score of the prompts that it stood in, in deviations of random prompts' scores."""

    costs = 0

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.place = {n: k for k, n in enumerate(vocabulary.ids)}
        self.sums, self.counts = np.zeros(len(self.place)), np.zeros(len(self.place))

    def saw(self, tokens: Sequence[int], gains: Sequence[float]) -> None:
        """Take note of what tokens gained against others in their place."""
        for token, gain in zip(tokens, gains, strict=True):
            if token in self.place:
                self.sums[self.place[token]] += np.log1p(max(gain, 0))
                self.counts[self.place[token]] += 1

    def __call__(self, rng: random.Random, ids: Sequence[int], place: int, count: int) -> list[int]:
        """Half of them drawn alike, half by the square of their gain, geometrically averaged, one unseen being 1."""
        alike = self.vocabulary.random(rng, round(count * EXPLORED))
        means = self.sums / (self.counts + 1)
        weights = np.exp(2 * means)
        return alike + rng.choices(self.vocabulary.ids, weights=weights.tolist(), k=count - len(alike))


class ByGradient:
    """Half of the tokens those with the steepest way up of the score, to first order; half as they scored before.

    A token stands for the embedding that the text encoder gives it alone.
    """

    costs = 1

    def __init__(self, model: Denoiser, look: FirstLook, score: str, worth: Worth) -> None:
        family = model.family
        if not (family.has_ends and len(family.texts) == 1):
            raise UsageError(f"--proposals gradient knows models of one text encoder with ends, not {family.name}.")
        self.model, self.look, self.score, self.worth = model, look, score, worth
        self.table: Tensor | None = None

    def _alone(self) -> Float[Tensor, "V D"]:
        """Embeddings of the vocabulary's tokens, each as the first of a prompt of its own."""
        vocabulary = self.worth.vocabulary
        texts = [vocabulary.text([n]) for n in vocabulary.ids]
        parts = [texts[k : k + ENCODED] for k in range(0, len(texts), ENCODED)]
        return torch.cat([self.model.encode(part)[self.model.family.texts[0]][:, 1].float() for part in parts])

    def __call__(self, rng: random.Random, ids: Sequence[int], place: int, count: int) -> list[int]:
        self.table = self._alone() if self.table is None else self.table
        step = self.look.step(self.model, [self.worth.vocabulary.text(ids)], graph=True)
        embedding = step.cond[self.model.family.texts[0]]
        with torch.enable_grad():
            value = registry.scoring(self.score)(step).sum()
        gradient = torch.autograd.grad(value, embedding)[0][0].float()
        gains = self.table @ gradient[min(place + 1, len(gradient) - 1)]
        best = gains.topk(min(count // 2, len(gains))).indices.tolist()
        chosen = [self.worth.vocabulary.ids[k] for k in best]
        return chosen + self.worth(rng, ids, place, count - len(chosen))


class ByLanguage:
    """Words that a masked language model of a local folder finds likely at the place, drawn among its first 200.

    Raises `UsageError` where the folder holds no such model.
    """

    costs, FIRST = 0, 200

    def __init__(self, folder: str, vocabulary: Vocabulary) -> None:
        self.tokenizer, self.network = masked_language_model(Path(folder))
        self.vocabulary = vocabulary

    @torch.no_grad()
    def __call__(self, rng: random.Random, ids: Sequence[int], place: int, count: int) -> list[int]:
        before, after = self.vocabulary.text(ids[:place]), self.vocabulary.text(ids[place + 1 :])
        asked = self.tokenizer(f"{before} {self.tokenizer.mask_token} {after}", return_tensors="pt", truncation=True)
        masked = (asked.input_ids[0] == self.tokenizer.mask_token_id).nonzero()[0, 0]
        logits = self.network(**asked).logits[0, masked]
        likely = logits.topk(min(self.FIRST, len(logits))).indices.tolist()
        words = [self.tokenizer.decode([n]).strip() for n in likely]
        tokens = [own[0] for word in words if word.isalpha() and len(own := self.vocabulary.of(word)) == 1]
        return rng.sample(tokens, min(count, len(tokens))) or self.vocabulary.random(rng, count)
