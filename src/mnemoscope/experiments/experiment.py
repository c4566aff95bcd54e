"""An experiment as a YAML file describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mnemoscope.errors import UsageError
from mnemoscope.experiments.arm import SCENES, SECTIONS, ExperimentArm
from mnemoscope.experiments.scenes import Scenes
from mnemoscope.run.fields import known_in, made
from mnemoscope.run.settings import Settings, one_of
from mnemoscope.run.yaml_values import read_yaml
from mnemoscope.study.hardware import Hardware

GROUPS = ("memorized", "duplicated", "other", "base")
MEASURES = (
    *("own_similarity", "own_nearest", "copy_rate", "any_similarity", "any_p95"),
    *("entropy_r", "jpeg_r", "dose_response"),
)
Size = Literal["cpu", "gpu"]
TOP = ("name", "question", "paper", "expected", "model", "scenes", "pretrain", "base", "baseline", "arms", "measure")
GPU = ("model", "layout", "architecture", "resolution", "device", "base", "pretrain", "measure", "arms")


@dataclass(frozen=True)
class Measuring:
    """What is measured; each is an entry of the same name under `measure`.

    Of each of the `groups` as many pictures are drawn, at most `prompts`, and their captions are the prompts. An image
    is a copy from a similarity of `threshold` with its own picture. `held_out` unseen scenes are the background.
    """

    groups: tuple[str, ...] = ("memorized",)
    prompts: int = 16
    features: str = "pixels"
    threshold: int | float = 0.8
    held_out: int = 0
    resamples: int = 2000

    def __post_init__(self) -> None:
        for group in self.groups:
            one_of("groups", group, GROUPS)
        if not self.groups or self.prompts < 1 or self.held_out < 0 or self.resamples < 1:
            raise UsageError(
                "groups names one or more, prompts and resamples are 1 or more, and held_out is 0 or more."
            )


@dataclass(frozen=True)
class ArmExpectation:
    """What a paper, or reason, says of an arm: the sign of a difference from another arm, or of the value itself."""

    arm: str
    measure: str
    sign: str
    group: str = "all"
    against: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        one_of("sign", self.sign, ("+", "-"))
        one_of("measure", self.measure, MEASURES)
        one_of("group", self.group, ("all", *GROUPS))


@dataclass(frozen=True)
class Experiment:
    """An experiment at one size; `given` is what it is known again by when it goes on."""

    file: str
    name: str
    question: str
    paper: str
    baseline: str
    model: str
    arms: dict[str, ExperimentArm]
    expected: tuple[ArmExpectation, ...]
    measure: Measuring
    scenes: dict[str, Scenes]
    pretrain: ExperimentArm | None
    size: Size
    given: Settings
    layout: str = ""
    architecture: str = ""
    resolution: int = 512
    hardware: Hardware = field(default_factory=Hardware)

    def chosen(self, names: list[str] | None) -> list[ExperimentArm]:
        """The arms of these names in the file's order, all if none is named, the baseline always among them."""
        for name in names or ():
            if name not in self.arms:
                raise UsageError(f"{self.file} has no arm {name}; it has {', '.join(self.arms)}.")
        return [arm for arm in self.arms.values() if not names or arm.name in (*names, self.baseline)]

    def training_of(self, arm: ExperimentArm) -> str:
        """The name of the training that an arm draws from: that of the first arm that is trained alike."""
        return next(each.name for each in self.arms.values() if each.trains_as == arm.trains_as)


def read_experiment(file: Path, size: Size = "cpu") -> Experiment:
    """The experiment of a file, every option of every arm checked; raises `UsageError` in one sentence."""
    held = read_yaml(file)
    try:
        return _experiment(file.name, known_in(file.name, held, (*TOP, "gpu")), size)
    except UsageError as e:
        raise UsageError(str(e) if str(e).startswith(file.name) else f"{file.name}: {e}") from e


def _experiment(file: str, held: Settings, size: Size) -> Experiment:
    given = {key: value for key, value in held.items() if key != "gpu"}
    gpu = known_in("gpu", held.get("gpu"), GPU)
    if size == "gpu":
        if not gpu:
            raise UsageError("it has no gpu size; leave out --size gpu, or write gpu: with its settings.")
        given = _resized(given, gpu)
    for key in ("name", "question", "arms", "base", "baseline"):
        if not given.get(key):
            raise UsageError(f"it lacks {key}; every experiment has one.")
    base = known_in("base", given["base"], SECTIONS)
    listed = known_in("arms", given["arms"], [*given["arms"]] if isinstance(given["arms"], Mapping) else [])
    arms = {str(name): ExperimentArm.of(str(name), settings, base) for name, settings in listed.items()}
    scenes = known_in("scenes", given.get("scenes"), [*(given.get("scenes") or {})])
    pretrain = given.get("pretrain")
    experiment = Experiment(
        *(file, str(given["name"]), str(given["question"]), str(given.get("paper", "")), str(given["baseline"])),
        model=str(given.get("model", "demo")),
        arms=arms,
        expected=tuple(made(ArmExpectation, "expected", each) for each in given.get("expected") or ()),
        measure=made(Measuring, "measure", given.get("measure") or {}),
        scenes={
            str(name): made(Scenes, f"scenes: {name}", {"part": place, **(settings or {})})  # others under each name
            for place, (name, settings) in enumerate(scenes.items())
        },
        pretrain=None if pretrain is None else ExperimentArm.of("pretrain", pretrain, {}),
        size=size,
        given=given,
        **_of_size(gpu if size == "gpu" else {}),
    )
    _check(experiment)
    return experiment


def _of_size(gpu: Settings) -> Settings:
    plain = {key: gpu[key] for key in ("layout", "architecture", "resolution") if key in gpu}
    return plain | {"hardware": made(Hardware, "gpu: device", gpu.get("device") or {})}


def _resized(given: Settings, gpu: Settings) -> Settings:
    """The settings with those of the GPU size in their place, section by section; scenes have no place there."""
    settings = {**given, "scenes": {}, "pretrain": gpu.get("pretrain")} | {k: gpu[k] for k in ("model",) if k in gpu}
    settings["measure"] = {**(given.get("measure") or {}), "held_out": 0, **(gpu.get("measure") or {})}
    settings["base"] = _over(given.get("base") or {}, gpu.get("base") or {})
    arms, larger = given.get("arms") or {}, gpu.get("arms") or {}
    known_in("gpu: arms", larger, [*arms])
    settings["arms"] = {name: _over(of_arm or {}, larger.get(name) or {}) for name, of_arm in arms.items()}
    return settings


def _over(below: Settings, above: Settings) -> Settings:
    merged = {part: {**(below.get(part) or {}), **(above.get(part) or {})} for part in SECTIONS}
    others = {key: value for key, value in {**below, **above}.items() if key not in SECTIONS}
    return {part: settings for part, settings in merged.items() if settings} | others


def _check(experiment: Experiment) -> None:
    for name, what in [(experiment.baseline, "baseline"), *((e.arm, "expected: arm") for e in experiment.expected)]:
        _known_arm(experiment, name, what)
    for each in experiment.expected:
        _known_arm(experiment, each.against or experiment.baseline, "expected: against")
    for arm in (*experiment.arms.values(), *([experiment.pretrain] if experiment.pretrain else [])):
        for key in ("data", "base"):
            source = str(arm.settings["data"].get(key))
            if source.startswith(SCENES) and source.removeprefix(SCENES) not in experiment.scenes:
                raise UsageError(f"arms: {arm.name}: data: {key} is {source}, and scenes has no such name.")


def _known_arm(experiment: Experiment, name: str, what: str) -> None:
    if name not in experiment.arms:
        raise UsageError(f"{what} is {name}, which is no arm; the arms are {', '.join(experiment.arms)}.")
