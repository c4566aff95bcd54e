"""Which text stands for a picture at each of its views: the style of the captions, then a chain of transforms."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.prompts.vocabulary import Tokenizer
from mnemoscope.training.data.options import DataOptions, chosen_transforms
from mnemoscope.training.data.rows import DataRow

ANYTHING = "An image"
KEY_TOKENS = 4  # of the caption of conditioning "random"
TOKEN_IDS = re.compile(r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]")  # a caption that is a list of token ids, as DCR's files have


@dataclass(frozen=True)
class CaptionChain:
    """Caption transforms one after the other, each applied with a probability, by a generator of its own.

    What becomes of a caption depends on the key alone: not on batches, workers or other captions. Sampling takes the
    same chain as training, with another key.
    """

    transforms: Sequence[tuple[registry.Method, registry.Parameters]]
    probability: int | float = 1.0
    tokenizer: Tokenizer | None = None

    def __call__(self, caption: str, *key: int | str) -> str:
        """The caption after all transforms; `key` is what its draws are made from, such as seed, epoch and index."""
        for place, (method, given) in enumerate(self.transforms):
            rng = keyed(method.name, place, *key)
            if rng.random() < self.probability:
                extra = {"tokenizer": self.tokenizer} if "tokenizer" in method.parameters else {}
                caption = method.function(caption, rng, **{**extra, **given})
        return caption


def keyed(*key: int | str) -> random.Random:
    """A generator for one purpose, which the key alone decides."""
    return random.Random("|".join(map(str, key)))


class Captions:
    """The caption of each view of a row, before and after the transforms."""

    def __init__(self, options: DataOptions, tokenizer: Tokenizer | None) -> None:
        if options.conditioning == "random" and tokenizer is None:
            raise UsageError("--conditioning random draws tokens, and the model has no tokenizer; use another.")
        self.options, self.tokenizer = options, tokenizer
        self.chain = CaptionChain(chosen_transforms(options.transform), options.probability, tokenizer)

    def lacking(self, row: DataRow) -> str | None:
        """Why a row cannot be trained on in this style, if it cannot."""
        if self.options.conditioning == "class":
            return None if row.kind else "no class: its folder or a column class has to name one"
        if unknown := next((u for caption in row.captions if (u := self._unknown(caption))), None):
            return unknown
        needs_none = self.options.conditioning in ("nolevel", "random")
        return None if needs_none or row.captions else "no caption"

    def possible(self, row: DataRow, is_duplicated: bool) -> tuple[str, ...]:
        """All captions that a row can be shown under, before the transforms."""
        match self.options.conditioning:
            case "nolevel":
                return (ANYTHING,)
            case "class":
                return (f"An image of {row.kind}",)
            case "random":
                keys = tuple(self._read(each) for each in row.captions if TOKEN_IDS.fullmatch(each.strip()))
                return keys or (self._nonsense(row),)
        draws = self.options.conditioning == "multiple" or (is_duplicated and self.options.duplication == "image")
        return tuple(map(self._read, row.captions if draws else row.captions[:1]))

    def asked(self, row: DataRow, is_duplicated: bool, epoch: int, index: int) -> str:
        """The caption of a view, before the transforms: a uniform draw where there are several."""
        texts = self.possible(row, is_duplicated)
        if len(texts) == 1:
            return texts[0]
        return keyed("caption", self.options.seed, epoch, index).choice(texts)

    def used(self, asked: str, epoch: int, index: int) -> str:
        """The caption after the transforms."""
        return self.chain(asked, self.options.seed, epoch, index)

    def _read(self, caption: str) -> str:
        """A caption as text: one that is a list of token ids is what the tokenizer makes of them."""
        if self.tokenizer is None or not TOKEN_IDS.fullmatch(caption.strip()):
            return caption
        return self.tokenizer.decode(_ids(caption)).strip()

    def _unknown(self, caption: str) -> str | None:
        if self.tokenizer is None or not TOKEN_IDS.fullmatch(caption.strip()):
            return None
        most = len(self.tokenizer)
        return next(
            (f"token {i} of its caption, where the vocabulary has {most}" for i in _ids(caption) if i >= most), None
        )

    def _nonsense(self, row: DataRow) -> str:
        """Four random tokens as text, the same for a picture whatever else is in the set."""
        transform = registry.get("caption", "random_caption").function
        rng = keyed("random", self.options.seed, row.group, row.file)
        return transform("", rng, count=KEY_TOKENS, tokenizer=self.tokenizer)


def _ids(caption: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", caption)]
