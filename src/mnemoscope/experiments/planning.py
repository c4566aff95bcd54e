"""A dry run: what an experiment would do, on which data, and what it would cost."""

from collections.abc import Sequence
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.experiments.arm import SCENES, ExperimentArm
from mnemoscope.experiments.experiment import Experiment
from mnemoscope.experiments.prices import Prices, computed, measured, memory, work_of
from mnemoscope.pictures import open_source


def plan(asked: Experiment, *, seeds: int = 3, arms: Sequence[str] = ()) -> list[str]:
    """The lines of a dry run; every option was checked when the file was read, and nothing is written or trained.

    Seconds are of the processor where the size is "cpu", from a few passes of the model on this machine, and of the
    hardware that the file names otherwise. Raises `UsageError` as `Experiment.chosen` and `computed` do.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} was given; give 1 or more.")
    chosen = asked.chosen(list(arms))
    work = work_of(asked, chosen, seeds)
    prices = computed(asked) if asked.size == "gpu" else measured(asked.model)
    lines = [f"{asked.name}: {asked.question}", f"model: {asked.model}, {prices.parameters / 1e6:,.1f} million weights"]
    lines += [f"data: {line}" for line in dict.fromkeys(_data(asked, arm) for arm in chosen if arm.trained)]
    lines += [_arm(asked, arm, prices) for arm in chosen]
    lines.append(f"work: {work.trainings:,} trainings on {work.trained:,} samples, {work.images:,} images drawn")
    return [*lines, f"cost: about {_duration(prices.seconds(work))} of {_machine(asked)}"]


def _data(asked: Experiment, arm: ExperimentArm) -> str:
    data = arm.settings["data"]
    texts = [_source(asked, str(data[key])) for key in ("data", "base") if data.get(key)]
    return ", with ".join(texts)


def _source(asked: Experiment, name: str) -> str:
    if name.startswith(SCENES):
        scenes = asked.scenes[name.removeprefix(SCENES)]
        low, high = scenes.range
        return f"{scenes.count} procedural scenes of {scenes.size} pixels, complexity {low:g} to {high:g}"
    if Path(name).exists():
        return f"{name}, {len(open_source(name)):,} pictures"
    return f"{name}, which is not here; expected: {asked.layout or 'any layout that train reads'}"


def _arm(asked: Experiment, arm: ExperimentArm, prices: Prices) -> str:
    images = len(asked.measure.groups) * asked.measure.prompts * arm.drawing().images
    if not arm.trained:
        return f"arm {arm.name}: not trained"
    options = arm.training(0, {}, "cpu").options
    drawn = asked.training_of(arm)
    trained = (
        f"{options.steps:,} steps of {options.batch_size * options.accumulation}"
        if drawn == arm.name
        else f"drawn from {drawn}"
    )
    room = f", {memory(prices, arm):.1f} GiB for weights and optimizer" if asked.size == "gpu" else ""
    return f"arm {arm.name}: {trained}, {images} images a seed{room}"


def _machine(asked: Experiment) -> str:
    if asked.size == "cpu":
        return "processor time on this machine"
    hardware = asked.hardware
    return f"{hardware.name}, at {hardware.utilisation:.0%} of {hardware.tflops:g} TFLOP/s"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
