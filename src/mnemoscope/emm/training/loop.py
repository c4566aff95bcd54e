"""Train a network from scratch on a set of images and score its snapshots: a run that can go on at any step."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.writers import write_images
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.training import checkpoints
from mnemoscope.emm.training.augmentation import Augmentation
from mnemoscope.emm.training.batches import EmmBatches
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.loss_log import Losses
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.showing import Showing
from mnemoscope.emm.training.snapshots import Snapshots, built, description, refuse_another_network
from mnemoscope.emm.training.stepping import EmmTraining
from mnemoscope.emm.training.transfer import transfer
from mnemoscope.emm.training.watching import CONFIRMED, SELECTED, SnapshotScorer, best, decided, result
from mnemoscope.errors import UsageError
from mnemoscope.run.emm_rows import EmmTrainRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run, read_json
from mnemoscope.run.threads import computing_with, recorded_threads
from mnemoscope.training.checkpoints import Checkpoints
from mnemoscope.training.processes import Interruption, accelerated, agreed, interruptible
from mnemoscope.training.recording import opened

DATA = "data.zip"


def train(
    images: Images,
    out: Path | str,
    network: NetworkOptions | None = None,
    options: EmmTrainOptions | None = None,
    *,
    augmentation: Augmentation | None = None,
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
) -> Json:
    """Train a network on images, score its snapshots, write the run; its summary, empty on all processes but the first.

    A run that is there already goes on from its checkpoint, or gives its summary if it was finished. `augmentation`
    takes the place of the one that the options say, for a network that is told of it. `source` says where the images
    come from, as the run records it. Raises `UsageError` for settings that do not fit the images or the
    run, and `KeyboardInterrupt`, with a checkpoint, when interrupted.
    """
    network, options, folder = network or NetworkOptions(), options or EmmTrainOptions(), Path(out)
    budget, (channels, height, width) = Budget(options, len(images)), images.pixels.shape[1:]
    if height != width:
        raise UsageError(f"The images are {width} x {height}; give square ones, or --resolution.")
    about = description(network, channels, height, images.num_classes)
    if not overwrite:
        refuse_another_network(folder)
    with accelerated(options, folder) as accelerator:
        place = {"process": accelerator.process_index, "processes": accelerator.num_processes}
        device = accelerator.device
        batches = EmmBatches(images, network, options, device=device, augmentation=augmentation, **place)
        first = built(about, options.seed)
        taken = None if options.transfer is None else transfer(first, options.transfer)
        model = EmmTraining(first.requires_grad_(True), accelerator, budget)
        record = {"settings": options.fixed(), "network": about, "data": _told(images, batches)}
        record |= {} if taken is None else {"transfer": asdict(taken)}
        record |= {"source": dict(source)} if source else {}
        free = {**options.free(), "processes": accelerator.num_processes}
        with opened(folder, "emm-train", record, free, accelerator, overwrite) as run:
            if run is not None:
                _keep(images, folder)
            if (folder / "summary.json").is_file():
                return read_json(folder / "summary.json") if run is not None else {}
            threads = [recorded_threads(folder) if run is not None else 1]
            broadcast_object_list(threads)
            on_processor = computing_with(threads[0]) if accelerator.device.type == "cpu" else nullcontext()
            with on_processor, Progress(transient=True, disable=run is None) as bar, interruptible() as interruption:
                show = Showing(bar, budget, interruption if accelerator.num_processes == 1 else None)
                scorer = SnapshotScorer(built(about), images, budget, accelerator, show.drawn)
                return _EmmSession(model, batches, scorer, folder, run, show, interruption).go()


def _keep(images: Images, folder: Path) -> None:
    """Write the training set into the run, for all that compares with it."""
    if not (folder / DATA).exists():
        write_images(images, folder / DATA)


def _told(images: Images, batches: EmmBatches) -> Json:
    hook = batches.augmentation
    return {"images": len(images), "hash": images.sha256(), "augmentation": None if hook is None else repr(hook)}


class _EmmSession:
    """From one start of a training to its end, or to its interruption."""

    def __init__(
        self,
        training: EmmTraining,
        batches: EmmBatches,
        scorer: SnapshotScorer,
        folder: Path,
        run: Run | None,
        show: Showing,
        interruption: Interruption,
    ) -> None:
        self.training, self.batches, self.scorer, self.run = training, batches, scorer, run
        self.show, self.interruption = show, interruption
        self.budget, self.options, self.accelerator = training.budget, training.options, training.accelerator
        self.names = [str(average) for average in self.options.averages]
        self.checkpoints = Checkpoints(folder / "checkpoints", keep=1)
        self.snapshots, self.losses = Snapshots(folder), Losses(None if run is None else folder)
        self.recorded, self.began = 0, time.perf_counter()  # steps whose work is in the run, and since when

    def go(self) -> Json:
        """Do the steps that are left, and write the summary."""
        if (checkpoint := self.checkpoints.newest()) is not None:
            checkpoints.restore(self.training, checkpoint)
        self.recorded = self.training.step
        self.losses.begin(self.training.step)
        reason = self._score()
        while self.training.step < self.budget.steps and reason is None:
            self.show.at(self.training.step)
            reason = self._step()
        self._confirm()
        return self._finish(reason if self.training.step < self.budget.steps else None)

    def _step(self) -> str | None:
        """One step, and what is due behind it; why to stop, if so."""
        self.training.update(self.batches.of(self.training.step))
        step = self.training.step
        if step % self.budget.log_every == 0 or step == self.budget.steps:
            self._log()
        (is_cut,) = agreed(self.accelerator, bool(self.interruption))
        is_snapshot = step in self.budget.snapshots
        if is_snapshot and self.run is not None:
            self.snapshots.write(step, self.training.weights())
        if is_cut or is_snapshot or step % self.options.checkpoint_every == 0:
            self._save()
        if is_cut:
            raise KeyboardInterrupt
        return self._score() if is_snapshot else None

    def _log(self) -> None:
        step = self.training.step
        row = self.training.logged(self.budget.rate(step - 1))
        self.losses.add(row)
        self.accelerator.log({k: v for k, v in row.items() if v is not None}, step=step)

    def _save(self) -> None:
        """A checkpoint of this moment, and the work up to it."""
        self.training.gather_tally()
        if self.run is not None:
            step = self.training.step
            self.losses.write()
            # first what it took, named by the step: a kill in between has these steps done, and named so, once more
            self._worked((step - self.recorded) * self.options.batch_size, part=f"step {step}")
            self.checkpoints.save(step, partial(checkpoints.write, self.training))
            self.recorded = step
        self.accelerator.wait_for_everyone()

    def _worked(self, evaluations: int, rows: Sequence[EmmTrainRow] = (), part: str | None = None) -> None:
        if self.run is not None:
            self.run.append(rows, evaluations=evaluations, seconds=time.perf_counter() - self.began, part=part)
            self.began = time.perf_counter()

    def _score(self) -> str | None:
        """Score the snapshots up to this step that have no rows yet; why to stop after them, if so."""
        rows = self._rows()
        if self.options.samples:
            for step in (s for s in self.budget.snapshots if s <= self.training.step):
                self._add_rows(rows, [(step, name, SELECTED) for name in self.names])
        reason = decided(rows, self.options)
        if self.run is not None and self.options.keep == "best":
            self._thin(rows)
        return reason

    def _confirm(self) -> None:
        """Score the best snapshot of each average once more, on images that did not choose it."""
        rows = self._rows()
        tops = {name: top for name in self.names if (top := best(rows, name)) is not None}
        self._add_rows(rows, [(top["step"], name, CONFIRMED) for name, top in tops.items()])

    def _add_rows(self, rows: list[EmmTrainRow], wanted: Sequence[tuple[int, str, str]]) -> None:
        """Score what has no row yet; the new rows are put behind the others, on all processes."""
        there = {(row["step"], row["ema"], row["part"]) for row in rows}
        for step, name, part in (each for each in wanted if each not in there):
            scored = [self.scorer.score(self.snapshots.read(step, name), step, name, part)]
            broadcast_object_list(scored)
            if scored[0] is not None:
                rows.append(scored[0])
                self._worked(self.scorer.evaluations, [scored[0]])

    def _rows(self) -> list[EmmTrainRow]:
        shared = [None if self.run is None else self.run.rows(EmmTrainRow)]
        broadcast_object_list(shared)
        return shared[0] or []

    def _thin(self, rows: Sequence[EmmTrainRow]) -> None:
        """Keep the snapshots that an average is best at, and the last one."""
        tops = [top["step"] for name in self.names if (top := best(rows, name)) is not None]
        self.snapshots.keep({*tops, *self.snapshots.steps()[-1:]})

    def _finish(self, reason: str | None) -> Json:
        if self.run is None:
            return {}
        self.losses.write()
        rows, step = self.run.rows(EmmTrainRow), self.training.step
        results = {name: result(rows, name) for name in self.names}
        logged = self.losses.rows
        return self.run.finish(
            steps=step,
            images=self.budget.seen(step),
            epochs=round(self.budget.epochs(step), 6),
            stopped=reason,
            loss=logged[-1]["loss"] if logged else None,
            bad_gradients=sum(row["bad_gradients"] for row in logged),
            skipped=sum(row["skipped"] for row in logged),
            parameters=sum(p.numel() for p in self.training.parameters),
            **results[self.names[0]],
            averages=results,
        )
