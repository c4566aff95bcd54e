"""How a search for memorized images goes."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from mnemoscope.errors import UsageError

Proposals = Literal["words", "gradient", "masked"]


class DrawSettings(TypedDict):
    """How a sampling goes, as `Denoiser.steps` takes it."""

    num_inference_steps: int
    guidance_scale: int | float | None


@dataclass(frozen=True)
class Extraction:
    """What a search may spend, how it walks through the vocabulary, and when images are copies of one another.

    `budget` is in network evaluations. A walk is a prompt of `tokens` tokens of which one at a time is exchanged for
    the best of `candidates`, `chains` of them side by side; with `chains` 0 there are only captions and random prompts.
    A prompt is drawn if its score is `deviations` above random prompts' and its push is at most `same` like that of
    a prompt that was drawn. Its images are a hit if `least` of them are alike, with a tiled distance below `below`.
    """

    budget: int = 20_000
    seed: int = 0
    score: str = "noise_norm"
    tokens: int = 8
    chains: int = 16
    candidates: int = 16
    patience: int = 8  # exchanges without a better prompt that end a walk
    proposals: Proposals = "words"
    masked_lm: str | None = None
    deviations: int | float = 3.0
    same: float = 0.8
    images: int = 4
    least: int = 3
    below: float = 0.15
    tiles: int = 4
    num_inference_steps: int = 50
    guidance_scale: int | float | None = None  # the pipeline's own if None

    def checked(self) -> "Extraction":
        """Itself; raises `UsageError` for what cannot be."""
        if not 2 <= self.least <= self.images:
            raise UsageError(
                f"A hit needs {self.least} alike of {self.images} images; give --least from 2 to --images."
            )
        if self.proposals == "masked" and self.masked_lm is None:
            raise UsageError("--proposals masked needs a masked language model; give its folder as --masked-lm.")
        if self.masked_lm is not None and self.proposals != "masked":
            raise UsageError("--masked-lm is of --proposals masked; give it, or leave the model out.")
        return self

    @property
    def sampling(self) -> DrawSettings:
        return {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
