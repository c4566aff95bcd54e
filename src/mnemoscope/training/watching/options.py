"""What is asked of the probes of a training: which prompts, how often, how closely, and when to stop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.run.probe_rows import OWN

Statistic = Literal["mean", "max"]


@dataclass(frozen=True)
class ProbeOptions:
    """Which prompts are looked at, how often, how closely, and when to stop; each is the option of the same name.

    Every `probe_every` steps, never for 0, the prompts of a file `probe_prompts`, or else the captions of `probe_count`
    pictures of each group, are scored by `probe_detectors`, and drawn `probe_images` times if that is not 0.
    `stop_above` has entries like "own_similarity=0.8" or "noise_norm=5": training stops when the mean (or "max", by
    `stop_by`) of a group's probes is above one. Raises `UsageError` for a detector that there is not, and for numbers
    out of range.
    """

    probe_every: int = 0
    probe_prompts: str | None = None
    probe_count: int = 8
    probe_detectors: tuple[str, ...] = ("noise_norm",)
    probe_images: int = 1
    probe_inference_steps: int = 20
    probe_guidance: int | float = 7.5
    probe_features: str = "pixels"
    probe_seed: int = 0
    stop_above: tuple[str, ...] = ()
    stop_by: Statistic = "mean"

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("count", 1), ("images", 0), ("inference_steps", 1), ("seed", 0)):
            if (value := getattr(self, f"probe_{name}")) < least:
                raise UsageError(f"--probe-{name.replace('_', '-')} {value} was given; give {least} or more.")
        for name in self.probe_detectors:
            registry.checked(registry.detection(name), {})
        if not (self.probe_detectors or self.probe_images):
            raise UsageError("Probes need something to look at; give --probe-detectors, or --probe-images 1.")
        if self.stop_by not in get_args(Statistic):
            raise UsageError(f"--stop-by {self.stop_by} is not known; give mean or max.")
        if self.limits and not self.probe_every:
            raise UsageError("--stop-above needs probes to look at; give --probe-every with it.")

    @property
    def limits(self) -> dict[str, float]:
        """What training stops above, by the name of a detector or `own_similarity`."""
        known = [*self.probe_detectors, *([OWN] if self.probe_images else [])]
        return dict(_limit(text, known) for text in self.stop_above)


def _limit(text: str, known: Sequence[str]) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name not in known or not math.isfinite(value):
        raise UsageError(f"--stop-above {text} is no limit; write {' or '.join(f'{k}=NUMBER' for k in known)}.")
    return name, value
