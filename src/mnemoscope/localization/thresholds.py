"""How alike the noise differences of two seeds may be before a prompt counts as memorized, and where that holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnemoscope.errors import UsageError
from mnemoscope.localization.differences import Differences, Setting
from mnemoscope.localization.searching import alike_pairs
from mnemoscope.methods import thresholds as calibration
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.reading import Json

PUBLISHED = 0.428  # mean and one standard deviation of 50,000 prompts under Stable Diffusion 1.4 (NeMo, section 4)
PUBLISHED_FOR = "stable-diffusion-v1-4"
PUBLISHED_AT = {"prediction_type": "epsilon", "latent_shape": [4, 64, 64], "seeds": 10, "num_inference_steps": 50}


def pairwise(model: Denoiser, prompts: Sequence[str], setting: Setting) -> list[list[float]]:
    """Similarity of every two seeds for each prompt, one evaluation a seed and prompt, all in one forward pass."""
    differences = Differences(model, list(prompts), setting).plain.split(setting.seeds)
    return [
        alike_pairs(differences_of, setting.likeness(differences_of.shape))[0].tolist()
        for differences_of in differences
    ]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of similarities, and the threshold that they make."""

    mean: float
    sd: float
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if len(values) < 2:
            raise UsageError(
                f"A threshold needs 2 similarities or more, and there are {len(values)}; give more prompts."
            )
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))

    @property
    def threshold(self) -> float:
        return self.mean + self.sd


def calibrated(similarities: Sequence[Sequence[float]], conditions: Json) -> Json:
    """The threshold of unmemorized prompts' similarities, in both readings of the paper, with its conditions.

    `threshold` takes all pairs of seeds, as section 4 and the released code do; `threshold_of_maxima` takes each
    prompt's greatest, as section 3.1 does.
    """
    pairs, maxima = (
        Spread.of([v for similarities_of in similarities for v in similarities_of]),
        Spread.of([max(similarities_of) for similarities_of in similarities]),
    )
    between = Spread.of([float(np.mean(similarities_of)) for similarities_of in similarities])
    return {
        "threshold": pairs.threshold,
        "mean": pairs.mean,
        "sd": pairs.sd,
        "standard_error": between.sd / math.sqrt(between.number),  # of the mean, as a prompt's pairs are no strangers
        "threshold_of_maxima": maxima.threshold,
        "mean_of_maxima": maxima.mean,
        "sd_of_maxima": maxima.sd,
        "prompts": len(similarities),
        "conditions": conditions,
    }


def resolved(threshold: int | float | str | Path | None, model: Denoiser, setting: Setting) -> float:
    """A threshold from a number, from a run of `localize threshold`, or the published one where it holds.

    Raises `UsageError` for a file made under other conditions, and where there is none and the published one, which is
    of Stable Diffusion 1.4 at 512 pixels, 10 seeds and 50 steps with `compat="nemo"`, does not hold: it is not scaled.
    """
    if isinstance(threshold, int | float) and not isinstance(threshold, bool):
        if not math.isfinite(threshold):
            raise UsageError(f"The threshold is {threshold}; give a number from 0 to 1.")
        return float(threshold)
    now = setting.conditions(model)
    if threshold is not None:
        return calibration.stored_threshold(Path(str(threshold)), now)
    is_model = PUBLISHED_FOR in Path(model.source.rstrip("/")).parts  # a fine-tune may have the name within its own
    is_published = is_model and setting.compat == "nemo" and all(now[k] == v for k, v in PUBLISHED_AT.items())
    if is_published and not setting.guided and setting.scales in (None, 3):
        return PUBLISHED
    raise UsageError(
        f"No threshold is known for {model.source} under these conditions (the published {PUBLISHED:g} is of "
        "stable-diffusion-v1-4, 512 pixels, 10 seeds, 50 steps, compat=nemo); "
        "make one with mnemoscope localize threshold, give ordinary prompts as --negatives, or give a number."
    )
