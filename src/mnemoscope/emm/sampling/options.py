"""How images are drawn, and from which seeds, as a command is given it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from mnemoscope.errors import UsageError
from mnemoscope.run.options import check, option

if TYPE_CHECKING:
    from torch import Tensor

CHURN = {"s_churn": "S_churn", "s_min": "S_min", "s_max": "S_max", "s_noise": "S_noise"}
MOST = 10_000_000  # seeds of a run
GENERAL = ("solver", "discretization", "schedule", "scaling", "alpha")  # options that only the general sampler has


PANEL = "Sampling"


@dataclass(frozen=True)
class Sampling:
    """How images are drawn; None leaves an option to the sampler, `ablation_sample` where any of its own is given.

    Raises `UsageError` for a solver, discretization, schedule or scaling that there is not.
    """

    num_inference_steps: int = option(18, "Sampling steps from noise to image.", PANEL, least=1)
    sigma_min: int | float | None = option(None, "Lowest noise level.", PANEL)
    sigma_max: int | float | None = option(None, "Highest noise level.", PANEL)
    rho: int | float = option(7, "Order of the root after which edm levels are even.", PANEL)
    solver: str | None = option(None, "euler or heun.", PANEL, known=("euler", "heun"))
    discretization: str | None = option(
        None, "Noise levels: vp, ve, iddpm or edm.", PANEL, known=("vp", "ve", "iddpm", "edm")
    )
    schedule: str | None = option(None, "Noise level over time: vp, ve or linear.", PANEL, known=("vp", "ve", "linear"))
    scaling: str | None = option(None, "vp or none.", PANEL, known=("vp", "none"))
    alpha: int | float | None = option(None, "Share of a step before its second evaluation.", PANEL)
    s_churn: int | float = option(0, "Noise added in all steps together; 0 for none.", PANEL, least=0)
    s_min: int | float = option(0, "Lowest noise level to which noise is added.", PANEL)
    s_max: int | float | None = option(None, "Highest noise level to which noise is added.", PANEL)
    s_noise: int | float = option(1, "What the added noise is multiplied by.", PANEL)

    def __post_init__(self) -> None:
        check(self)

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
    numbers: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) < int(low):
            raise UsageError(f"--seeds {text} is no list of seeds; write numbers and ranges: 0-63,100.")
        if int(high or low) - int(low) >= MOST - len(numbers):
            raise UsageError(f"--seeds {text} are more than {MOST:,} seeds; draw them in several runs.")
        numbers += range(int(low), int(high or low) + 1)
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text} has a seed twice; give each once.")
    return numbers


def asked_seeds(images: int | None, seeds: str | None, usual: int = 64) -> list[int]:
    """Those listed, or from 0 on as many as there are to be images; raises `UsageError` where both are given."""
    if images is not None and seeds is not None:
        raise UsageError(
            f"Both --images and --seeds were given; --images {images} is --seeds 0-{images - 1}; give one."
        )
    if seeds is not None:
        return read_seeds(seeds)
    return list(range(usual if images is None else images))
