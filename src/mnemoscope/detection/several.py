"""Several detections of the same prompts in one pass: each step of the sampling is computed once for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mnemoscope import registry
from mnemoscope.detection.concluding import AskedPrompts, concluded
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.errors import UsageError
from mnemoscope.job.batching import Attempts, Batch, Pass, prompt_run
from mnemoscope.job.seeds import samples
from mnemoscope.methods.amounts import is_number
from mnemoscope.methods.thresholds import calibrate, fixed_threshold
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.solvers import check_guidance_scale
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectionsRow, DetectRow, KnownRole
from mnemoscope.run.run import Run
from mnemoscope.run.settings import Settings
from mnemoscope.run.several import COMMAND

SAMPLING = ("seed", "seeds", "num_inference_steps", "guidance_scale")


def run_detections(
    model: Denoiser,
    asked: AskedPrompts,
    out: Path | str,
    detections: Mapping[str, Detection],
    *,
    fpr: float = 0.01,
    threshold: str | Path | int | float | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Score all prompts by each of the methods, one row for each of both, and return the summary with one of each."""
    first = next(iter(detections.values()))
    found = {name: each.checked() for name, each in detections.items()}
    calibrate([], fpr=fpr)
    samples(asked.all, first.seed, first.seeds)
    where = {name: each.conditions(model) for name, each in detections.items()}
    fixed = {name: _threshold(threshold, where[name]) for name in detections}
    settings = _settings(detections) | {
        "fpr": fpr,
        "threshold": None if threshold is None else str(threshold),
        "content": asked.content,
    }
    prompts = {p.id: p for p in asked.all}
    known: dict[str, _KnownTo] = {
        row_id(name, i): {"method": name, "prompt_id": i, **told} for i, told in asked.known.items() for name in found
    }

    def finish(run: Run, made: list[DetectionsRow]) -> tuple[list[DetectionsRow], Json]:
        rows: list[DetectionsRow] = [{**r, **known[r["id"]]} for r in made]
        said: dict[str, Json] = {}
        flagged: dict[str, DetectionsRow] = {}
        for name, detection in detections.items():

            def again(some: list[DetectionsRow], detection: Detection = detection) -> list[DetectRow]:
                return detect_rows(model, [prompts[r["prompt_id"]] for r in some], detection)

            own = [r for r in rows if r["method"] == name]
            own, summary = concluded(model, own, where[name], again, fpr=fpr, threshold=fixed[name])
            flagged |= {r["id"]: r for r in own}
            said[name] = {"failed": sum(r["status"] != "ok" for r in own), **summary}
        return [flagged[r["id"]] for r in rows], {"prompts": len(asked.prompts), "methods": said}

    size, whom = Batch.of(model, batch, first.seeds), asked.all
    plan = [Pass("detect", partial(_known_rows, model, detections, known), partial(_row_ids, list(detections)))]
    about = {name: method.about for name, method in found.items()}
    run = partial(prompt_run, out, COMMAND, DetectionsRow, settings, [model], whom, size, overwrite=overwrite)
    return run(lambda run: plan, finish, methods=about)


def _known_rows(
    model: Denoiser, detections: Mapping[str, Detection], known: "Mapping[str, _KnownTo]", some: list[Prompt]
) -> list[DetectionsRow]:
    return [{**row, **known[row["id"]]} for row in method_rows(model, some, detections)]


def _row_ids(methods: Sequence[str], prompt: Prompt) -> list[str]:
    return [row_id(name, prompt.id) for name in methods]


def _settings(detections: Mapping[str, Detection]) -> Settings:
    return {
        **{key: getattr(next(iter(detections.values())), key) for key in SAMPLING},
        "methods": {name: each.method for name, each in detections.items()},
        "params": {f"{name}.{k}": v for name, each in detections.items() for k, v in each.parameters.items()},
    }


class _KnownTo(KnownRole):
    """What is known of a method's row before it is computed."""

    method: str
    prompt_id: str


def row_id(method: str, prompt: str) -> str:
    """The id of the row that a method gives of a prompt."""
    return f"{method}-{prompt}"


def named(detections: Sequence[Detection]) -> dict[str, Detection]:
    """Detections by the names of their methods; raises `UsageError` for none, for two of a name or of two samplings."""
    if not detections:
        raise UsageError("No detection was given; give at least one.")
    own: dict[str, Detection] = {}
    for each in detections:
        name = registry.detection(each.method).name
        if name in own:
            raise UsageError(f"The method {name} was given twice; give each once, or make a run of each.")
        own[name] = each
        if each.guidance_scale is not None:
            check_guidance_scale(each.guidance_scale)  # NaN is unlike itself
        for key in SAMPLING:
            here, there = getattr(each, key), getattr(detections[0], key)
            if here != there:
                raise UsageError(f"Methods of one run share its sampling, and {key} was {there} and {here}; give one.")
    return own


def method_rows(model: Denoiser, prompts: list[Prompt], detections: Mapping[str, Detection]) -> list[DetectRow]:
    """Rows of a batch of prompts by each method. What one of them cannot score is lost to no other one."""
    shared = _Shared(model)
    rows: list[DetectRow] = []
    for name, detection in sorted(detections.items(), key=lambda pair: pair[1].checked().kind != "score"):

        def work(some: list[Prompt], detection: Detection = detection) -> list[DetectRow]:
            with shared.sampling(detection, some) as trajectory:
                return detect_rows(model, some, detection, trajectory)

        own = Attempts(model, Pass(name, work), len(prompts)).rows(prompts)
        rows += [{**row, "id": row_id(name, row["id"])} for row in own]
    return rows


class _Shared:
    """The sampling of the prompts that were looked at last, as far as it was computed."""

    def __init__(self, model: Denoiser) -> None:
        self._model = model
        self._ids: list[str] = []
        self._trajectory: Trajectory | None = None

    @contextmanager
    def sampling(self, detection: Detection, prompts: Sequence[Prompt]) -> Iterator[Trajectory]:
        """That of these prompts, the same one as long as no other prompts are asked for and nothing fails in it."""
        ids = [p.id for p in prompts]
        if self._trajectory is None or self._ids != ids:
            self._ids, self._trajectory = ids, detection.sampled(self._model, prompts)
        try:
            yield self._trajectory
        except BaseException:
            self._trajectory = None  # it may be broken, and a smaller batch may need its memory
            raise


def _threshold(given: str | Path | int | float | None, where: Json) -> float | None:
    if isinstance(given, int | float) or isinstance(given, str) and is_number(given):
        raise UsageError(f"The threshold {given} is one method's, and several were given; give a run of all of them.")
    return None if given is None else fixed_threshold(given, where)
