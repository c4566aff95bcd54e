"""Train a pipeline on a set: a run that stops and goes on at any step, on one process or many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.size import make_own, pixels_per_latent
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run, read_json, read_rows
from mnemoscope.run.training_rows import TrainRow
from mnemoscope.training.checkpoints import Checkpoints, restore, write
from mnemoscope.training.data.batches import Batches
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.manifest import write_manifest
from mnemoscope.training.export import export, export_at
from mnemoscope.training.networks import Networks
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions, checkpoint_path
from mnemoscope.training.processes import accelerated, agreed, interruptible
from mnemoscope.training.recording import opened, record_of
from mnemoscope.training.state import Training
from mnemoscope.training.watching.logging import Log
from mnemoscope.training.watching.previews import previews

PIPELINES = "pipelines"
RECENT = 100  # steps that the loss of the summary is the mean of
Callback = Callable[[int, DiffusionPipeline, Run], str | None]


def train(
    pipe: DiffusionPipeline,
    data: TrainingSet,
    out: Path | str,
    options: TrainOptions | None = None,
    objective: ObjectiveOptions | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    source: str = "",
    overwrite: bool = False,
    asked: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Json:
    """Train networks of the pipeline, in place, and write the run; its summary, empty on all processes but the first.

    A run that is there already goes on from its newest checkpoint, or gives its summary if it was finished. Callbacks
    are called with (step, pipe, run) before the first step and after each one, on the first process; what one returns
    after a step is the reason to stop. `asked` and `warnings` are recorded and change nothing. Raises
    `UsageError` for settings that do not fit the model or the run, and `KeyboardInterrupt`, with a checkpoint, when
    interrupted.
    """
    options, objective, folder = options or TrainOptions(), objective or ObjectiveOptions(), Path(out)
    elsewhere = checkpoint_path(options.resume)
    with accelerated(options, folder) as accelerator:
        if hasattr(pipe, "unet") and not data.resolution % pixels_per_latent(pipe):  # which is refused further on
            make_own(pipe, (data.resolution, data.resolution))  # what is trained at a size draws at it, and is saved so
        model = {**Denoiser(pipe.to(accelerator.device), source).describe(), "warnings": list(warnings)}
        nets = Networks(pipe, options, objective)
        record = record_of(data, options, objective, model, accelerator)
        free = {**options.free(), **(asked or {})}
        with opened(folder, "train", record, free, accelerator, overwrite) as run:
            if (folder / "summary.json").is_file():
                return read_json(folder / "summary.json") if run is not None else {}
            session = _TrainingSession(Training(nets, accelerator, options), data, folder, run, callbacks)
            session.begin(elsewhere)
            return session.finish(session.go())


class _TrainingSession:
    """From one start of a training to its end, or to its interruption."""

    def __init__(
        self, training: Training, data: TrainingSet, folder: Path, run: Run | None, callbacks: Sequence[Callback]
    ) -> None:
        self.training, self.data, self.folder, self.run = training, data, folder, run
        self.options, self.accelerator = training.options, training.accelerator
        vae = getattr(training.nets.pipe, "vae", None)
        place = {"process": self.accelerator.process_index, "processes": self.accelerator.num_processes}
        self.batches = Batches(data, vae, self.options, **place, folder=folder / "latents")
        self.checkpoints = Checkpoints(folder / "checkpoints", self.options.keep)
        self.log = Log(run, self.accelerator)
        self.callbacks: list[Callback] = [previews(data, self.options), *callbacks]
        self.evaluations = self.batches.samples * (1 + (training.nets.objective.hard_threshold is not None))

    def begin(self, elsewhere: Path | None) -> None:
        """Prepare the data, and take up the training where it was left."""
        if self.run is not None:
            write_manifest(self.data, self.folder)
            for _ in self._shown(self.batches.prepare(), "latents", len(self.data)):
                pass
        self.accelerator.wait_for_everyone()
        if (checkpoint := self.checkpoints.newest() or elsewhere) is not None:
            restore(self.training, checkpoint)
        self.log.begin(self.training.step)

    def go(self) -> str | None:
        """Do the steps that are left; why it was stopped before the last one, if it was."""
        with interruptible() as interruption, self._progress() as bar:
            task = bar.add_task("training", total=self.options.steps, completed=self.training.step) if bar else None
            if not self.training.step:
                self._look()  # what the model was before; nothing is to be stopped yet
            is_cut, reason = False, None
            while self.training.step < self.options.steps and not (is_cut or reason):
                row = self.training.update(self.batches.of(self.training.step))
                self.log.add(row, self.evaluations)
                is_cut, reason = self._agreed(bool(interruption), self._look())
                self._keep_pipeline()
                if is_cut or reason or self._is_due():
                    self._save()
                if bar is not None and task is not None:
                    loss = "none" if row["loss"] is None else f"{row['loss']:.4f}"
                    bar.update(task, completed=self.training.step, description=f"training, loss {loss}")
        if is_cut:
            raise KeyboardInterrupt
        return reason

    def finish(self, reason: str | None) -> Json:
        """Write the result and the summary."""
        if self.run is None:
            return {}
        rows = read_rows(self.folder, TrainRow)
        if rows and not any(row["updated"] for row in rows):
            limit = self.training.nets.objective.hard_threshold
            raise UsageError(
                f"The filter left out every sample of {len(rows)} steps, so that nothing was trained; "
                f"give a --hard-threshold above {limit}, and --overwrite or another --out."
            )
        place = export(self.training, self.folder)
        losses = [row["loss"] for row in rows[-RECENT:] if row["loss"] is not None]
        newest = self.checkpoints.newest()
        return self.run.finish(
            steps=self.training.step,
            stopped=reason,
            loss=sum(losses) / len(losses) if losses else None,
            updates=sum(bool(row["updated"]) for row in rows),
            data=self.data.report(),
            export=place.name,
            checkpoint=None if newest is None else f"checkpoints/{newest.name}",
        )

    def _look(self) -> str | None:
        """Call the callbacks on the first process; the first reason to stop."""
        if self.run is None:
            return None
        answers = [callback(self.training.step, self.training.nets.pipe, self.run) for callback in self.callbacks]
        return next((text for text in answers if text), None)

    def _agreed(self, is_cut: bool, reason: str | None) -> tuple[bool, str | None]:
        """Whether any process is to be interrupted, and why any of them stops."""
        cut, stopped = agreed(self.accelerator, is_cut, bool(reason))
        return cut, reason or ("stopped by another process" if stopped else None)

    def _is_due(self) -> bool:
        step = self.training.step
        return step % self.options.checkpoint_every == 0 or step == self.options.steps

    def _keep_pipeline(self) -> None:
        """Write the whole pipeline of this step, if it is one of those; its checkpoint comes after it."""
        step, every = self.training.step, self.options.save_every
        if self.run is not None and every and step % every == 0:
            export_at(self.training, self.folder / PIPELINES / f"step-{step:06d}")

    def _save(self) -> None:
        if self.run is not None:
            self.log.flush()
            self.checkpoints.save(self.training.step, partial(write, self.training))
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _progress(self) -> Iterator[Progress | None]:
        with Progress(transient=True) if self.run is not None else nullcontext() as bar:
            yield bar

    def _shown(self, done: Iterator[int], title: str, total: int) -> Iterator[int]:
        with Progress(transient=True) as bar:
            task = bar.add_task(title, total=total)
            for count in done:
                bar.update(task, completed=count)
                yield count
