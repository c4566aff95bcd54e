"""A level of a factor: what of the data, the network or the training it changes, and what of a training is read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mnemoscope.emm.data.options import SetOptions
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.networks.options import VERSIONS
from mnemoscope.emm.training.average import Average
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.errors import UsageError
from mnemoscope.run.fields import known_in, made
from mnemoscope.run.settings import Settings

SECTIONS = ("data", "network", "train", "read")
OWN = (*SECTIONS, "sizes", "x")
OURS = ("seed", "device")  # given by the command, the same for all levels


@dataclass(frozen=True)
class Reading:
    """What of a training is read: which average of the weights, at which fraction of the budget, and which snapshot.

    The average is the first one if not named. `pick` is the last snapshot up to `at`, or `max`, the highest ratio of
    all snapshots up to there, which is optimistic.
    """

    ema: str | None = None
    at: int | float = 1
    pick: Literal["last", "max"] = "last"


@dataclass(frozen=True)
class LevelTraining:
    """All that one training depends on, but for its images."""

    network: NetworkOptions
    options: EmmTrainOptions

    def key(self, images: Any) -> str:
        """Equal for trainings that are the same: of one content, settings and seed."""
        mask = self.network.skips
        network = asdict(self.network) | {"skips": None if mask is None or all(mask) else mask}
        if (version := VERSIONS[self.network.architecture]) > 1:
            network["version"] = version
        settings = json.dumps([images, network, self.options.fixed()], sort_keys=True, default=str)
        return hashlib.sha256(settings.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class FactorLevel:
    """One level of a factor, its base settings included; `x` places it on a line of levels."""

    name: str
    settings: dict[str, Settings]
    sizes: tuple[int, ...]
    x: int | float | None = None

    @classmethod
    def of(cls, name: str, overrides: Any, base: Mapping[str, Any]) -> "FactorLevel":
        """A level from its overrides; raises `UsageError` for what no option takes."""
        given = known_in(f"levels: {name}", overrides, OWN)
        settings = {part: {**(base.get(part) or {})} for part in SECTIONS}
        for part in SECTIONS:
            settings[part] |= known_in(f"levels: {name}: {part}", given.get(part), [*(given.get(part) or {})])
        more = {key: given[key] for key in ("x",) if key in given}
        more |= {"sizes": given.get("sizes", base.get("sizes"))}
        level = made(cls, f"levels: {name}", more, name=name, settings=settings)
        level.check()
        return level

    @property
    def data(self) -> SetOptions:
        """Where its images come from."""
        return made(SetOptions, f"levels: {self.name}: data", self.settings["data"])

    @property
    def reading(self) -> Reading:
        """What of a training it is."""
        return made(Reading, f"levels: {self.name}: read", self.settings["read"])

    def training(self, seed: int, device: str = "cpu") -> LevelTraining:
        """What is trained with a seed."""
        options = self.settings["train"]
        if taken := [name for name in OURS if name in options]:
            raise UsageError(f"levels: {self.name}: train: {taken[0]} is not for a level to set; use the options.")
        return LevelTraining(
            made(NetworkOptions, f"levels: {self.name}: network", self.settings["network"]),
            made(EmmTrainOptions, f"levels: {self.name}: train", options, seed=seed, device=device),
        )

    def read_step(self, n: int) -> int:
        """The update at which it is read."""
        budget = Budget(self.training(0).options, n)
        return max(1, round(self.reading.at * budget.steps))

    def check(self) -> None:
        """Raise `UsageError` for settings that cannot be."""
        where = f"levels: {self.name}"
        if not self.sizes or min(self.sizes) < 1 or list(self.sizes) != sorted(set(self.sizes)):
            raise UsageError(f"{where}: sizes are {list(self.sizes)}; give numbers of images, smallest first.")
        options, reading = self.training(0).options, self.reading
        self.data  # noqa: B018
        if not options.samples:
            raise UsageError(f"{where}: train: samples is 0; a sweep is about the ratio, so give some.")
        if reading.ema is not None and Average.of(reading.ema) not in options.averages:
            raise UsageError(f"{where}: read: ema {reading.ema} is not kept; train has {', '.join(options.ema)}.")
        for n in self.sizes:
            if self.read_step(n) not in Budget(options, n).snapshots:
                raise UsageError(f"{where}: read: at {reading.at} has no snapshot; give train: snapshot_at with it.")
