"""What `emm optimum` is asked: of which images, how they are drawn, from which seeds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from torch import Tensor

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.data.subset import make_subset
from mnemoscope.emm.sampling.ablation_sampler import ablation_sample
from mnemoscope.emm.sampling.samplers import edm_sample
from mnemoscope.emm.sweeps.level import source_images
from mnemoscope.errors import UsageError

CHURN = {"s_churn": "S_churn", "s_min": "S_min", "s_max": "S_max", "s_noise": "S_noise"}
GENERAL = ("solver", "discretization", "schedule", "scaling", "alpha")  # options that only the general sampler has


@dataclass(frozen=True)
class Sampling:
    """How images are drawn; None leaves an option to the sampler, `ablation_sample` where any of its own is given."""

    num_inference_steps: int = 18
    sigma_min: int | float | None = None
    sigma_max: int | float | None = None
    rho: int | float = 7
    solver: str | None = None
    discretization: str | None = None
    schedule: str | None = None
    scaling: str | None = None
    alpha: int | float | None = None
    s_churn: int | float = 0
    s_min: int | float = 0
    s_max: int | float | None = None
    s_noise: int | float = 1

    def sampler(self) -> Callable[..., Tensor]:
        """The sampler with these options."""
        given = {CHURN.get(name, name): value for name, value in asdict(self).items() if value is not None}
        return partial(ablation_sample if any(name in given for name in GENERAL) else edm_sample, **given)


@dataclass(frozen=True)
class Subset:
    """The training images: a source, how many of them, at which size, and with which labels."""

    data: str
    subset_size: int | None = None
    subset_seed: int = 0
    label_mode: str = "none"
    label_classes: int | None = None
    resolution: int | None = None
    dedupe: bool = False

    def images(self) -> Images:
        """The images; those of a file of arrays stay in it if none are left out, and are read when they are needed."""
        if self.data == "patches":
            images = source_images(self.data)
        else:
            images = read_images(self.data, resolution=self.resolution)
        if self == Subset(self.data, resolution=self.resolution, subset_seed=self.subset_seed):
            return images.unlabelled()
        return make_subset(
            images,
            self.subset_size,
            label_mode=self.label_mode,
            label_classes=self.label_classes,
            resolution=self.resolution,
            seed=self.subset_seed,
            dedupe=self.dedupe,
        )


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
        found += range(int(low), int(high or low) + 1)
    return found
