"""How images are drawn, and from which seeds, as a command is given it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {
    "solver": ("euler", "heun"),
    "discretization": ("vp", "ve", "iddpm", "edm"),
    "schedule": ("vp", "ve", "linear"),
    "scaling": ("vp", "none"),
}
CHURN = {"s_churn": "S_churn", "s_min": "S_min", "s_max": "S_max", "s_noise": "S_noise"}
MOST = 10_000_000  # seeds of a run
GENERAL = ("solver", "discretization", "schedule", "scaling", "alpha")  # options that only the general sampler has


def _of(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "panel": "Sampling"})


@dataclass(frozen=True)
class Sampling:
    """How images are drawn; None leaves an option to the sampler, `ablation_sample` where any of its own is given.

    Raises `UsageError` for a solver, discretization, schedule or scaling that there is not.
    """

    num_inference_steps: int = _of(18, "Sampling steps from noise to image.")
    sigma_min: int | float | None = _of(None, "Lowest noise level.")
    sigma_max: int | float | None = _of(None, "Highest noise level.")
    rho: int | float = _of(7, "Order of the root after which edm levels are even.")
    solver: str | None = _of(None, "euler or heun.")
    discretization: str | None = _of(None, "Noise levels: vp, ve, iddpm or edm.")
    schedule: str | None = _of(None, "Noise level over time: vp, ve or linear.")
    scaling: str | None = _of(None, "vp or none.")
    alpha: int | float | None = _of(None, "Share of a step before its second evaluation.")
    s_churn: int | float = _of(0, "Noise added in all steps together; 0 for none.")
    s_min: int | float = _of(0, "Lowest noise level to which noise is added.")
    s_max: int | float | None = _of(None, "Highest noise level to which noise is added.")
    s_noise: int | float = _of(1, "What the added noise is multiplied by.")

    def __post_init__(self) -> None:
        for name, known in KINDS.items():
            if (value := getattr(self, name)) is not None and value not in known:
                raise UsageError(f"--{name} {value} is not known; give {' or '.join(known)}.")
        for name, value in asdict(self).items():
            if isinstance(value, float) and not isfinite(value):
                raise UsageError(f"--{name.replace('_', '-')} {value} is no number; give one.")
        if self.num_inference_steps < 1 or self.s_churn < 0:
            raise UsageError("Sampling needs at least 1 of --num-inference-steps and an --s-churn of 0 or more.")

    def sampler(self) -> "Callable[..., Tensor]":
        """The sampler with these options."""
        from mnemoscope.emm.sampling.ablation_sampler import ablation_sample
        from mnemoscope.emm.sampling.samplers import edm_sample

        given = {CHURN.get(name, name): value for name, value in asdict(self).items() if value is not None}
        return partial(ablation_sample if any(name in given for name in GENERAL) else edm_sample, **given)


def written(seeds: Sequence[int]) -> str:
    """Seeds as text, ranges as 0-63."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and parts[-1][1] == seed - 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(f"{low}-{high}" if low < high else str(low) for low, high in parts)


def read_seeds(text: str) -> list[int]:
    """Seeds from text as 0-63,100,200-263; raises `UsageError` for anything else."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) < int(low):
            raise UsageError(f"--seeds {text} is no list of seeds; write numbers and ranges: 0-63,100.")
        if int(high or low) - int(low) >= MOST - len(found):
            raise UsageError(f"--seeds {text} are more than {MOST:,} seeds; draw them in several runs.")
        found += range(int(low), int(high or low) + 1)
    if len(set(found)) < len(found):
        raise UsageError(f"--seeds {text} has a seed twice; give each once.")
    return found


def asked_seeds(images: int | None, seeds: str | None, usual: int = 64) -> list[int]:
    """Those listed, or from 0 on as many as there are to be images; raises `UsageError` where both are given."""
    if images is not None and seeds is not None:
        raise UsageError(
            f"Both --images and --seeds were given; --images {images} is --seeds 0-{images - 1}; give one."
        )
    return list(range(usual if images is None else images)) if seeds is None else read_seeds(seeds)
