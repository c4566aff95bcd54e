"""Following a folder that some trainer writes checkpoints into, and saying when pictures begin to come back."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.training_rows import WatchRow
from mnemoscope.run.writing import write_whole
from mnemoscope.training.data.batches import training_set
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.watching.options import WatchOptions
from mnemoscope.training.watching.probes import ProbeLook, probes_of
from mnemoscope.training.watching.returning import came_back, judged, reason
from mnemoscope.training.watching.saved import Saved, saved_in

BASE = "base"  # the untrained model's rows
FREE = ("wait", "poll", "stop_above", "stop_by", "stop_share", "stop_file", "webhook")  # what changes no row
TIMEOUT = 20.0  # seconds that a webhook may take
Open = Callable[..., Denoiser]


class Watching:
    """A run whose rows are looks at checkpoints, the untrained model first."""

    def __init__(self, run: Run, look: ProbeLook, options: WatchOptions) -> None:
        self.run, self.look_at, self.options = run, look, options

    def rows(self, checkpoint: str, sha256: str | None = None) -> list[WatchRow]:
        """Rows of a checkpoint that did not fail; of one that was written again, those of its last weights."""
        kept = [row for row in self.run.rows(WatchRow) if row["checkpoint"] == checkpoint and row["status"] == "ok"]
        wanted = sha256 or (kept[-1]["sha256"] if kept else None)
        return [row for row in kept if row["sha256"] == wanted]

    def has(self, checkpoint: str, sha256: str | None = None) -> bool:
        """Whether a checkpoint was looked at and no kill took any of its rows."""
        return self.run.is_whole(row["id"] for row in self.rows(checkpoint, sha256))

    @property
    def base(self) -> list[WatchRow]:
        return self.rows(BASE)

    def look(self, checkpoint: str, step: int | None, sha256: str, model: Denoiser) -> list[WatchRow]:
        """Rows of a model, which are kept."""
        start, before = time.monotonic(), self.look_at.network_evaluations
        found = self.look_at.look(model, step or 0)
        rows: list[WatchRow] = [
            {
                "id": f"{checkpoint}@{sha256}-{row['probe']}-{row['detector']}",
                **row,
                "status": "ok",
                "sha256": sha256,
                "step": step,
            }
            for row in judged(self.look_at, found, checkpoint, None if checkpoint == BASE else self.base)
        ]
        self._draw(checkpoint, rows)
        spent = self.look_at.network_evaluations - before
        self.run.append(rows, evaluations=spent, seconds=time.monotonic() - start)
        return rows

    def _draw(self, checkpoint: str, rows: list[WatchRow]) -> None:
        """Write the first image of each picture that comes back, and the picture as it is trained on."""
        for row in rows:
            images, probe = self.look_at.images.get(row["probe"]), self.look_at.probes[row["probe"]]
            if row["returning"] and images and probe.images:
                row["file"] = self._written(f"images/{Path(checkpoint).stem}-{row['probe']}.png", images[0])
                row["reference"] = self._written(f"references/{row['probe']}.png", probe.images[0])

    def _written(self, name: str, image: Image.Image) -> str:
        write_whole(self.run.folder / name, lambda file: image.save(file, "PNG"))
        return name


def run_watch(
    model: str,
    checkpoints: Path | str,
    data: DataOptions,
    out: Path | str,
    options: WatchOptions | None = None,
    *,
    load: Open = Denoiser.from_pretrained,
    told: Callable[[Path, list[WatchRow]], None] = lambda folder, rows: None,
    overwrite: bool = False,
) -> Json:
    """Look at every checkpoint that comes into a folder until one is reason to stop; returns the summary.

    `model` is what the training began from, `data` what it is trained on. `load` opens a model by name with what is
    put into it, `told` is called with the run and its new rows after each look. The folder need not be there yet. A
    run goes on where it was: a checkpoint is known by its name and the hash of its weights. Raises `UsageError` for
    a folder that does not come, data without a usable picture, and a base that cannot be opened; a checkpoint that
    cannot is a failed row, counted in the summary.
    """
    options, folder = options or WatchOptions(), Path(checkpoints)
    _there(folder, options)
    base = load(model)
    look = ProbeLook(probes_of(training_set(base.pipe, data), options), options)
    settings = {k: v for k, v in asdict(options).items() if k not in FREE}
    record = {"model": base.describe(), "checkpoints": str(folder.resolve())}
    with Run(out, "watch", {"data": asdict(data), **settings}, overwrite=overwrite, **record) as run:
        watching = Watching(run, look, options)
        if not watching.has(BASE):
            told(run.folder, watching.look(BASE, 0, base.weights_hash, base))
        del base
        for saved in _coming(folder, options, lambda s: watching.has(s.name, s.sha256)):
            rows = _looked_at(watching, saved, model, load)
            told(run.folder, rows)
            if rows and reason(rows, watching.base, options):
                break
        if why := _first_reason(watching, folder):
            tell(why, run.folder, options)
        return run.finish(**summary(watching, folder, why))


def _looked_at(watching: Watching, saved: Saved, model: str, load: Open) -> list[WatchRow]:
    sha256 = saved.sha256
    try:
        name, parts = saved.opening(model)
        return watching.look(saved.name, saved.step, sha256, load(name, **parts))
    except UsageError as error:
        failed = {"id": f"{saved.name}@{sha256}", "status": "failed", "error": str(error), "prompt": ""}
        watching.run.append([{**failed, "checkpoint": saved.name, "step": saved.step, "sha256": sha256}])
        return []


def _there(folder: Path, options: WatchOptions) -> None:
    """Wait for the folder, which a trainer makes with its first checkpoint; raises `UsageError` if it does not come."""
    until = time.monotonic() + options.wait
    while not folder.is_dir() and time.monotonic() < until:
        time.sleep(min(options.poll, max(0.0, until - time.monotonic())))
    saved_in(folder)


def _coming(folder: Path, options: WatchOptions, is_known: Callable[[Saved], bool]) -> Iterator[Saved]:
    """Whole checkpoints in their order, each state of one once, until none has come for the time to wait."""
    states: dict[str, object] = {}
    last = time.monotonic()
    with Progress() as progress:
        task = progress.add_task("Checkpoints", total=None)
        while True:
            new = [s for s in saved_in(folder)[0] if states.get(s.name) != s.state and s.is_whole]
            for saved in new[:1]:
                states[saved.name] = saved.state
                if not is_known(saved):
                    yield saved
                progress.advance(task)
                last = time.monotonic()
            if not new:
                if time.monotonic() - last >= options.wait:
                    return
                time.sleep(min(options.poll, max(0.01, options.wait)))


def _first_reason(watching: Watching, folder: Path) -> str | None:
    """The reason to stop of the first checkpoint that has one."""
    reasons = (
        reason(rows, watching.base, watching.options)
        for saved in saved_in(folder)[0]
        if (rows := watching.rows(saved.name))
    )
    return next(filter(None, reasons), None)


def summary(watching: Watching, folder: Path, why: str | None) -> Json:
    """What came back when: checkpoints looked at, pictures by the first checkpoint that gave them back, the advice."""
    saved, other = saved_in(folder)
    base, seen = watching.base, []
    first: dict[int, str] = {}
    for each in saved:
        rows = watching.rows(each.name)
        seen += [each.name] if rows else []
        for probe in came_back(rows, base):
            first.setdefault(probe, each.name)
    pictures = [
        {"prompt": look.prompt, "picture": next(iter(look.files), None), "checkpoint": first[k]}
        for k, look in enumerate(watching.look_at.probes)
        if k in first
    ]
    clean = seen[: seen.index(next(iter(first.values())))] if first and seen else seen
    return {
        "checkpoints": seen,
        "not_read": other,
        "probes": len(watching.look_at.probes),
        "returned_by_base": len({row["probe"] for row in base if row["returning"]}),
        "came_back": pictures,
        "last_without_copies": clean[-1] if clean else None,
        "stop": why,
    }


def tell(why: str, folder: Path, options: WatchOptions) -> None:
    """Write the reason to the stop file and send it to the webhook, where they were asked for.

    Raises `UsageError` for an address that cannot be reached or says no; what it is stays out of the sentence.
    """
    if options.stop_file:
        write_whole(Path(options.stop_file), why + "\n")
    if options.webhook:
        content: Mapping[str, str] = {"text": why, "run": str(folder)}
        _send(_address(options.webhook), json.dumps(content).encode())


def _address(given: str) -> str:
    name = given.removeprefix("env:")
    if name == given:
        return given
    if not (found := os.environ.get(name)):
        raise UsageError(f"--webhook {given} names a variable that is not set; set {name} to the URL.")
    return found


def _send(url: str, content: bytes) -> None:
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except (OSError, ValueError) as error:
        said = getattr(error, "code", None) or type(error).__name__
        raise UsageError(f"The webhook could not be told ({said}); the reason stands in the run's summary.") from None
