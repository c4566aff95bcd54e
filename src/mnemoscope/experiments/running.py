"""An experiment, arm by arm and seed by seed: trained, drawn, measured; killed at any point it goes on from there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.experiments.arm import ArmTraining, ExperimentArm
from mnemoscope.experiments.drawing import held_out_rows, image_rows
from mnemoscope.experiments.effects import Effect, table
from mnemoscope.experiments.experiment import Experiment
from mnemoscope.experiments.scenes import Scenes, scenes, write_scenes
from mnemoscope.experiments.subjects import subjects
from mnemoscope.experiments.verdicts import verdict
from mnemoscope.features import descriptor
from mnemoscope.job.attempts import Counted
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import load
from mnemoscope.run import runner
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run, read_json
from mnemoscope.run.training_rows import ExperimentRow
from mnemoscope.run.writing import write_csv
from mnemoscope.training.data.batches import training_set
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.loop import train
from mnemoscope.training.watching.probes import Probes, probes_of

UNSEEN = 99  # part of the scenes that nothing is trained on
PRETRAINED = "pretrain"
COLUMNS = (
    *("arm", "group", "measure", "value", "low", "high", "difference", "difference_low", "difference_high"),
    *("images", "pictures", "seeds", "p", "family"),
)


def run_experiment(
    asked: Experiment,
    out: Path | str,
    *,
    seeds: int = 3,
    arms: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Json:
    """Run the arms, the baseline always among them, with so many seeds, and return the summary with the table.

    What is there already is not done again: arms and seeds can be added later. Arms have the same order of data, noise,
    prompts and seeds of images. Raises `UsageError` for no seeds, an arm that there is not, and as training does.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} was given; give 1 or more.")
    chosen = asked.chosen(list(arms))
    settings = {"file": asked.file, "size": asked.size, "content": asked.given}
    with Run(out, "experiment", settings, overwrite=overwrite) as run:
        work = _SharedWork(asked, run.folder.resolve(), device)
        cells = [ArmSeed(arm, seed) for seed in range(seeds) for arm in chosen]
        if runner.is_spread():
            work.share([cell for cell in cells if not _is_done(run, cell)])
        for found in runner.each(work.rows, (cell for cell in cells if not _is_done(run, cell))):
            run.append(found.made, evaluations=found.evaluations, seconds=found.seconds)
        rows = [
            row for row in run.rows(ExperimentRow) if row["seed"] < seeds and row["arm"] in {arm.name for arm in chosen}
        ]
        summary = summary_of(asked, chosen, rows)
        write_csv(run.folder / "table.csv", COLUMNS, map(flat, summary["table"]))
        return run.finish(seeds=seeds, arms=[arm.name for arm in chosen], **summary)


def summary_of(asked: Experiment, arms: Sequence[ExperimentArm], rows: Sequence[ExperimentRow]) -> Json:
    """The table of an experiment's rows, and what it says of what was expected."""
    threshold, resamples = asked.measure.threshold, asked.measure.resamples
    placed = {arm.name: (arm.family, arm.dose) for arm in arms}
    against = dict.fromkeys([asked.baseline, *(each.against or asked.baseline for each in asked.expected)])
    tables = {
        name: table(rows, placed, name, threshold=threshold, resamples=resamples) for name in against if name in placed
    }
    verdicts = [
        verdict(each, tables.get(each.against or asked.baseline, []), asked.baseline) for each in asked.expected
    ]
    about = {"name": asked.name, "question": asked.question, "paper": asked.paper, "baseline": asked.baseline}
    how = {"features": asked.measure.features, "threshold": threshold, "resamples": resamples}
    return about | how | {"table": tables[asked.baseline], "expected": verdicts}


def flat(entry: Effect) -> dict[str, object]:
    """An entry of the table as a row of a CSV file, the ends of an interval in two columns."""
    ends = {"low": entry["interval"], "difference_low": entry["difference_interval"]}
    low = {name: pair[0] for name, pair in ends.items() if pair}
    high = {name.replace("low", "high"): pair[1] for name, pair in ends.items() if pair}
    return {**entry, **low, **high}


@dataclass(frozen=True)
class ArmSeed:
    """An arm with a seed."""

    arm: ExperimentArm
    seed: int


def _is_done(run: Run, cell: ArmSeed) -> bool:
    rows = run.rows(ExperimentRow)
    return run.is_whole(r["id"] for r in rows if r["arm"] == cell.arm.name and r["seed"] == cell.seed)


class _SharedWork:
    """What the arms of an experiment share."""

    def __init__(self, asked: Experiment, folder: Path, device: str) -> None:
        self.asked, self.folder, self.device = asked, folder, device
        self.describe = descriptor(asked.measure.features)
        if not self.describe.unit:
            raise UsageError(f"measure: features {asked.measure.features} have no similarity; use another.")

    def share(self, cells: Sequence[ArmSeed]) -> None:
        """Make what several cells need, each thing once, before workers take the cells side by side."""
        for seed in dict.fromkeys(cell.seed for cell in cells):
            self._places(seed)
        list(runner.each(_SharedWork.start, [self] if self.asked.pretrain and cells else []))
        trained = [cell for cell in cells if cell.arm.trained]
        once = {(self.asked.training_of(cell.arm), cell.seed): cell for cell in trained}
        list(runner.each(self.train, once.values()))

    def rows(self, cell: ArmSeed) -> Counted[list[ExperimentRow]]:
        """The rows of the images of an arm, which is trained first where it was not yet."""
        arm, seed = cell.arm, cell.seed
        data, model, samples = self._model(arm, seed)
        sets = [self._set(each, seed) for each in self._distinct()]
        whom = subjects(sets, self.asked.measure.groups, self.asked.measure.prompts, seed)
        began = time.perf_counter()
        rows = image_rows(model, data, whom, arm.drawing(), self.describe, self.folder, arm.name, seed, samples)
        rows += held_out_rows(data, self._unseen(seed), self.describe, arm.name, seed)
        return Counted(rows, model.network_evaluations, time.perf_counter() - began)

    def train(self, cell: ArmSeed) -> int:
        """Train an arm with a seed, unless that was done; how many samples it saw."""
        start, asked = self.start(), cell.arm.training(cell.seed, self._places(cell.seed), self.device)
        summary = _train(start, asked, self._training(cell.arm, cell.seed))
        return int(summary["steps"]) * asked.options.batch_size * asked.options.accumulation

    def _training(self, arm: ExperimentArm, seed: int) -> Path:
        return self.folder / "trainings" / f"{self.asked.training_of(arm)}-s{seed}"

    def _model(self, arm: ExperimentArm, seed: int) -> tuple[TrainingSet, Denoiser, int]:
        """The set that an arm is trained on, its model, and how many samples it was trained on."""
        start = self.start()
        if not arm.trained:
            return self._set(self.asked.arms[self.asked.baseline], seed), self._loaded(start), 0
        samples, place = self.train(ArmSeed(arm, seed)), self._training(arm, seed)
        is_lora = arm.training(seed, self._places(seed), self.device).options.train == "lora"
        model = self._loaded(start, place / "lora") if is_lora else self._loaded(str(place / "pipeline"))
        return self._set(arm, seed), model, samples

    def start(self) -> str:
        """The model that every arm begins with, trained first if the file asks for that."""
        if self.asked.pretrain is None:
            return self.asked.model
        place = self.folder / "trainings" / PRETRAINED
        _train(self.asked.model, self.asked.pretrain.training(0, self._places(0), self.device), place)
        return str(place / "pipeline")

    def _loaded(self, model: str, lora: Path | None = None) -> Denoiser:
        return Denoiser.from_pretrained(model, lora=lora, device=self.device)

    def _set(self, arm: ExperimentArm, seed: int) -> TrainingSet:
        pipe = load(self.asked.model, device="cpu", dtype="float32")
        return training_set(pipe, arm.training(seed, self._places(seed), self.device).data)

    def _distinct(self) -> list[ExperimentArm]:
        """One arm for each set of data, of all arms of the file: subjects do not depend on which of them are run."""
        arms = {repr(arm.settings["data"]): arm for arm in self.asked.arms.values() if arm.trained}
        return list(arms.values())

    def _places(self, seed: int) -> dict[str, Path]:
        return {
            name: write_scenes(each, seed, self.folder / "scenes" / f"{name}-s{seed}")
            for name, each in self.asked.scenes.items()
        }

    def _unseen(self, seed: int) -> list[Image.Image]:
        """Scenes that nothing was trained on, of the kind of the first ones of the file."""
        kinds = list(self.asked.scenes.values())
        if not (self.asked.measure.held_out and kinds):
            return []
        unseen = Scenes(self.asked.measure.held_out, kinds[0].size, kinds[0].complexity, kinds[0].captions, UNSEEN)
        return [scene.image for scene in scenes(unseen, seed)]


def _train(model: str, asked: ArmTraining, place: Path) -> Json:
    """The summary of a training, which is done, gone on with, or begun."""
    if (place / "summary.json").is_file():
        return read_json(place / "summary.json")
    pipe = load(model, device="cpu", dtype="float32")
    data = training_set(pipe, asked.data)
    watched = [Probes(probes_of(data, asked.probe), asked.probe)] if asked.probe.probe_every else []
    return train(pipe, data, place, asked.options, asked.objective, callbacks=watched, source=model)
