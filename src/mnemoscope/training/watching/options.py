"""What is asked of the probes of a training: which prompts, how often, how closely, and when to stop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.run.options import check, option
from mnemoscope.training.options import WATCHING

Statistic = Literal["mean", "max"]


@dataclass(frozen=True)
class LookOptions:
    """Which prompts are looked at, how closely, and when to stop; each is the option of the same name.

    The prompts of a file `probe_prompts`, or else the captions of `probe_count` pictures of each group, are scored by
    `probe_detectors`, and drawn `probe_images` times if that is not 0. `stop_above` has entries like
    "own_similarity=0.8" or "noise_norm=5": training should stop when the mean (or "max", by `stop_by`) of a group's
    probes is above one. Raises `UsageError` for a detector that there is not, and for numbers out of range.
    """

    probe_prompts: str | None = option(None, "Prompts to probe, if not the data's.", WATCHING)
    probe_count: int = option(8, "Pictures of each group whose captions are probed.", WATCHING, least=1)
    probe_detectors: tuple[str, ...] = option(("noise_norm",), "A detector; repeat it. noise_norm if none.", WATCHING)
    probe_images: int = option(1, "Images of each probe; 0 for scores alone.", WATCHING, least=0)
    probe_inference_steps: int = option(20, "Sampling steps of a probe.", WATCHING, least=1)
    probe_guidance: int | float = option(7.5, "Guidance of a probe.", WATCHING)
    probe_features: str = option("pixels", "What a probe's images are compared by.", WATCHING)
    probe_seed: int = option(0, "First seed of the probes.", WATCHING, least=0)
    stop_above: tuple[str, ...] = option((), "Stop above own_similarity=0.8; repeat it.", WATCHING)
    stop_by: Statistic = option("mean", "The mean or the max of a group's probes.", WATCHING)

    def __post_init__(self) -> None:
        check(self)
        for name in self.probe_detectors:
            registry.checked(registry.detection(name), {})
        if not (self.probe_detectors or self.probe_images):
            raise UsageError("Probes need something to look at; give --probe-detectors, or --probe-images 1.")
        self.limits  # noqa: B018  (raises for a limit that is none)

    @property
    def limits(self) -> dict[str, float]:
        """What training stops above, by the name of a detector or `own_similarity`."""
        from mnemoscope.run.probe_rows import OWN

        known = [*self.probe_detectors, *([OWN] if self.probe_images else [])]
        return dict(_limit(text, known) for text in self.stop_above)


@dataclass(frozen=True)
class ProbeOptions(LookOptions):
    """`LookOptions`, and how often a training looks: every `probe_every` steps, never for 0."""

    probe_every: int = option(0, "Steps from probe to probe; 0 for none.", WATCHING, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop_above and not self.probe_every:
            raise UsageError("--stop-above needs probes to look at; give --probe-every with it.")


def _limit(text: str, known: Sequence[str]) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name not in known or not math.isfinite(value):
        raise UsageError(f"--stop-above {text} is no limit; write {' or '.join(f'{k}=NUMBER' for k in known)}.")
    return name, value


@dataclass(frozen=True)
class WatchOptions(LookOptions):
    """`LookOptions`, and how a folder of checkpoints is followed, and what is done when a training should stop.

    The watch ends when no checkpoint has come for `wait` seconds. A training should stop when more than `stop_share` of
    the probed pictures come back, or by `stop_above`; then the reason is written to `stop_file` and sent to `webhook`.
    """

    probe_count: int = option(64, "Pictures of each group whose captions are probed.", WATCHING, least=1)
    stop_share: int | float = option(
        0.25, "Stop when more than this share of the pictures come back.", WATCHING, least=0, most=1
    )
    wait: int | float = option(1800, "End when no checkpoint has come for so many seconds.", WATCHING, least=0)
    poll: int | float = option(5, "Seconds between two looks at the folder.", WATCHING, above=0)
    stop_file: str | None = option(None, "File to write the reason into when training should stop.", WATCHING)
    webhook: str | None = option(
        None, "URL to send a reason to stop to, or env:NAME of a variable that holds it.", WATCHING
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://", "env:")):
            raise UsageError("--webhook is no URL; give http://..., https://..., or env:NAME.")
