"""An arm of an experiment: what is trained, how images are drawn from it, on which random numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.run.fields import known_in, made
from mnemoscope.run.settings import Settings
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions
from mnemoscope.training.watching.options import ProbeOptions

SECTIONS = ("data", "train", "objective", "probe", "generate")
OWN = (*SECTIONS, "dose", "family", "trained")
SCENES = "scenes:"  # before the name of scenes, in the place of a folder
OURS = ("seed", "device", "resume")  # given by the runner, the same for all arms


@dataclass(frozen=True)
class ArmDrawing:
    """How the images of an arm are drawn; each is an entry of the same name under `generate`."""

    images: int = 2
    num_inference_steps: int = 20
    guidance_scale: int | float = 3.0
    mitigations: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images < 1 or self.num_inference_steps < 1:
            raise UsageError("images and num_inference_steps are numbers from 1 up.")
        for each in self.chosen:
            each.check()

    @property
    def chosen(self) -> list[Mitigation]:
        """The mitigations that act while images are drawn."""
        return [Mitigation(name, dict(given or {})) for name, given in self.mitigations.items()]


@dataclass(frozen=True)
class ArmTraining:
    """All that one training depends on, but for its model."""

    data: DataOptions
    options: TrainOptions
    objective: ObjectiveOptions
    probe: ProbeOptions


@dataclass(frozen=True)
class ExperimentArm:
    """One arm as a file describes it, its base settings included; `dose` and `family` place it on a line of arms.

    An arm that is not `trained` draws from the model that the others start from.
    """

    name: str
    settings: dict[str, Settings]
    dose: int | float | None = None
    family: str = ""
    trained: bool = True

    @classmethod
    def of(cls, name: str, overrides: Any, base: Mapping[str, Mapping[str, Any]]) -> "ExperimentArm":
        """An arm from its overrides; raises `UsageError` for what no option takes."""
        given = known_in(f"arms: {name}", overrides, OWN)
        settings = {part: {**(base.get(part) or {})} for part in SECTIONS}
        for part in SECTIONS:
            settings[part] |= known_in(f"arms: {name}: {part}", given.get(part), [*(given.get(part) or {})])
        more: Settings = {key: given[key] for key in ("dose", "family", "trained") if key in given}
        arm = made(cls, f"arms: {name}", more, name=name, settings=settings)
        arm.training(0, {}, "cpu")
        arm.drawing()
        return arm

    def training(self, seed: int, places: Mapping[str, Path], device: str) -> ArmTraining:
        """What is trained with a seed; `places` are the folders of the scenes."""
        options = {part: dict(self.settings[part]) for part in SECTIONS}
        for part, names in (("data", OURS[:1]), ("train", OURS), ("probe", ("probe_seed",))):
            if taken := [name for name in names if name in options[part]]:
                raise UsageError(f"arms: {self.name}: {part}: {taken[0]} is not for an arm to set; use the options.")
        for key in ("data", "base"):
            if str(options["data"].get(key)).startswith(SCENES):
                named = str(options["data"][key]).removeprefix(SCENES)
                options["data"][key] = str(places.get(named, options["data"][key]))
        where = f"arms: {self.name}"
        return ArmTraining(
            made(DataOptions, f"{where}: data", options["data"], seed=seed),
            made(TrainOptions, f"{where}: train", options["train"], seed=seed, device=device, resume="auto"),
            made(ObjectiveOptions, f"{where}: objective", options["objective"]),
            made(ProbeOptions, f"{where}: probe", options["probe"], probe_seed=seed),
        )

    def drawing(self) -> ArmDrawing:
        """How images are drawn."""
        return made(ArmDrawing, f"arms: {self.name}: generate", self.settings["generate"])

    @property
    def trains_as(self) -> str:
        """Equal for arms that differ only in how images are drawn, so that they share one training."""
        return repr({part: self.settings[part] for part in SECTIONS if part != "generate"}) if self.trained else ""
