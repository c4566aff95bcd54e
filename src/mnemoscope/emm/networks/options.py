"""What a network of the EMM experiments is made of, and what its family fixes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import sqrt
from typing import Any, Literal

from mnemoscope.errors import UsageError

Architecture = Literal["ddpmpp", "ncsnpp", "adm"]
Kind = Literal["vp", "ve", "edm", "iddpm"]


@dataclass(frozen=True)
class Style:
    """What an architecture fixes: how its blocks are conditioned, joined, resampled and where they attend."""

    noise_factor: int
    taps: tuple[int, ...]
    scale: float
    epsilon: float
    scale_shift: bool
    project_resampled: bool
    pyramid: bool
    head_channels: int | None
    every_decoder_block_attends: bool


_SONG = Style(1, (1, 1), sqrt(0.5), 1e-6, False, True, False, None, False)
STYLES: Mapping[str, Style] = {
    "ddpmpp": _SONG,
    "ncsnpp": Style(2, (1, 3, 3, 1), sqrt(0.5), 1e-6, False, True, True, None, False),
    "adm": Style(1, (1, 1), 1.0, 1e-5, True, False, False, 64, True),
}


VERSIONS: Mapping[str, int] = {"ddpmpp": 1, "ncsnpp": 2, "adm": 2}
"""How often the network of a name has become another one: weights of an earlier version mean nothing in this one."""
PUBLISHED = "2026-11-30"  # since when version 2 is the published network


def require_current(architecture: str, version: int | None, source: str) -> None:
    """Raise `UsageError` where weights were trained in a network that had the name of another one; none means 1."""
    if (version or 1) != VERSIONS.get(architecture, version or 1):
        raise UsageError(
            f"{source} was made with an {architecture} network that was not the published one (before {PUBLISHED}); "
            "its weights mean nothing in this one, so train it again."
        )


def _of(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, "panel": "Network", **more})


@dataclass(frozen=True)
class NetworkOptions:
    """A U-Net of the EMM experiments and its preconditioning; the defaults are the common setting of the paper.

    architecture: `ddpmpp` and `ncsnpp` (Song et al. 2021), `adm` (Dhariwal and Nichol 2021).
    width, multipliers, blocks: channels of the first convolution; of each level in its units; blocks a level.
    attention: resolutions at which blocks attend; none at all (nor in the bottleneck) if empty. In adm a block has a
      head for each 64 channels, and one of fewer channels does not attend.
    embedding: features of the noise level; `adm` has positional ones only.
    skips: 1 for a skip connection that is kept, 0 for one that feeds zeros, in encoder order, blocks + 1 a level
      (the input convolution counts to the first level, a down-sampling block to the level it leads to); None keeps all.
    preconditioning: how the denoiser is made from the network (`mnemoscope.emm.networks.preconditioning`).
    noise_input: what the embedding is given, `own` the preconditioning's c_noise, `log` ln(sigma)/4 for each of them.
    label_scale: `classes` as one-hot rows times sqrt(C), whose strength grows with the number of classes C;
      `constant` as if C were 10, whatever it is. Rows of adm are not multiplied.
    augmentation: whether the network is told what was done to its image (9 numbers).

    Raises `UsageError` for options that make no network.
    """

    architecture: Architecture = _of("ddpmpp", "ddpmpp, ncsnpp or adm.")
    width: int = _of(128, "Channels of the first convolution.")
    multipliers: tuple[int, ...] = _of((2, 2, 2), "Channels of each level in widths: 2,2,2.", commas=True)
    blocks: int = _of(2, "Residual blocks of a level.")
    attention: tuple[int, ...] = _of((16,), "Resolutions that attend: 16, or none.", commas=True)
    embedding: Literal["positional", "fourier"] = _of("positional", "Of the noise level: positional or fourier.")
    dropout: float | int = _of(0.13, "Share of channels left out in training.")
    skips: tuple[int, ...] | None = _of(None, "Skip connections, highest resolution first: 1,1,0,0.", commas=True)
    preconditioning: Kind = _of("vp", "vp, ve, edm or iddpm, with its loss.")
    noise_input: Literal["own", "log"] = _of("own", "What the embedding sees: own, or log.")
    label_scale: Literal["classes", "constant"] = _of("classes", "Strength of labels: classes, or constant.")
    augmentation: bool = field(default=False, metadata={"internal": True})

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise UsageError(f"A width of {self.width} was given; give a multiple of 4.")
        if self.blocks < 1 or not self.multipliers or min(self.multipliers) < 1:
            raise UsageError("A network needs a level, a block a level and multipliers of at least 1.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"A dropout of {self.dropout} was given; give a share from 0 to below 1.")
        if self.architecture == "adm" and self.embedding != "positional":
            raise UsageError("The adm network has a positional embedding only; use embedding positional.")
        if self.architecture == "adm" and self.label_scale != "classes":
            raise UsageError("Labels of the adm network do not grow with their number; leave label_scale out.")
        if self.skips is not None and (len(self.skips) != self.skip_count or not set(self.skips) <= {0, 1}):
            raise UsageError(
                f"The skip mask {','.join(map(str, self.skips))} does not fit; give {self.skip_count} entries 0 or 1, "
                f"{self.blocks + 1} for each of {len(self.multipliers)} levels, highest resolution first."
            )

    @property
    def style(self) -> Style:
        """What the architecture fixes."""
        return STYLES[self.architecture]

    @property
    def skip_count(self) -> int:
        """How many skip connections the network has."""
        return len(self.multipliers) * (self.blocks + 1)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "NetworkOptions":
        """Options from a mapping, as in a settings file; lists become tuples. Raises `UsageError` for a stranger."""
        known = {field.name for field in fields(cls)}
        if strangers := sorted(set(values) - known):
            raise UsageError(f"A network has no option {strangers[0]!r}; it has {', '.join(sorted(known))}.")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)


def resolutions(options: NetworkOptions, resolution: int) -> tuple[int, ...]:
    """The resolution of each level. Raises `UsageError` where images do not halve so often, or none attends."""
    levels = len(options.multipliers)
    if resolution % 2 ** (levels - 1) or resolution < 2 ** (levels - 1):
        raise UsageError(f"Images of {resolution} pixels do not halve {levels - 1} times; give fewer multipliers.")
    sides = tuple(resolution >> level for level in range(levels))
    if strangers := sorted(set(options.attention) - set(sides)):
        raise UsageError(
            f"Attention at {strangers[0]} was asked for, but the levels are {', '.join(map(str, sides))} pixels wide."
        )
    return sides
