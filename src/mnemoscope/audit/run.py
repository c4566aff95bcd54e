"""The whole audit: detect, draw what is flagged, compare with the training images, explain, mitigate, report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection
from mnemoscope.explanation.run import Explanation, run_explanation
from mnemoscope.features import Descriptor
from mnemoscope.features.alignment import Aligner
from mnemoscope.features.references import References
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.job.seeds import content_of
from mnemoscope.measuring.generated import read_generated
from mnemoscope.measuring.measurement import Measurement, run_measurement
from mnemoscope.measuring.sides import Sources
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.parts import MITIGATED
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow
from mnemoscope.run.run import Run, read_rows

COUNTED = ("failed", "network_evaluations", "seconds")
COSTS = ("replication", "own_image", "alignment")  # measures of mitigated images
Detected = Mapping[str, DetectRow]  # rows of a detection by their ids
Made = dict[str, Json]  # the summary of each part of an audit
Drawn = Callable[[Detected], tuple[list[Prompt], list[Prompt]]]  # suspects, and those to compare them with


@dataclass(frozen=True)
class Copying:
    """Training images that what is drawn is compared with, and by what; vectors are kept in the folder `cache`."""

    references: str
    descriptor: Descriptor
    measurement: Measurement = Measurement()
    captions: Path | None = None
    column: str | None = None
    cache: Path | None = None
    aligner: Aligner | None = None

    def run(self, drawn: Path, out: Path, *, overwrite: bool) -> Json:
        """Measure the images of a run and return the summary."""
        sources = Sources(self.references, self.captions, self.column, aligner=self.aligner)
        images = read_generated(str(drawn))
        return run_measurement(
            images, out, self.descriptor, self.measurement, sources, cache=self.cache, overwrite=overwrite
        )

    def again(self, drawn: Path, out: Path, first: Path, *, overwrite: bool) -> Json:
        """Measure mitigated images: what is still copied, and whether they still show what was asked for."""
        metrics = COSTS if self.aligner else COSTS[:-1]
        measurement = replace(self.measurement, metrics=metrics, params={}, gallery=0)
        less = replace(self, measurement=measurement, cache=self.cache or first / "features")
        return less.run(drawn, out, overwrite=overwrite)


@dataclass(frozen=True)
class Examination:
    """What an audit does with a model: how prompts are scored, images drawn and compared, suspects explained."""

    detection: Detection
    generation: Generation
    references: References | None = None
    explanation: Explanation | None = None
    mitigation: Mitigation | None = None
    copying: Copying | None = None
    most: int = 24
    fpr: float = 0.01
    batch: int | str = "auto"
    overwrite: bool = False
    threshold: str | Path | int | float | None = None


def run_audit(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path,
    detection: Detection,
    generation: Generation,
    *,
    negatives: Sequence[Prompt] = (),
    references: References | None = None,
    explanation: Explanation | None = None,
    mitigation: Mitigation | None = None,
    copying: Copying | None = None,
    most: int = 24,
    fpr: float = 0.01,
    batch: int | str = "auto",
    overwrite: bool = False,
    threshold: str | Path | int | float | None = None,
) -> int:
    """Audit a model's prompts into a folder; returns how many prompts or images failed.

    Images are drawn for at most `most` of the flagged prompts, spread evenly from the highest score to the lowest (of
    all prompts, where nothing could be flagged), and for a third as many unflagged ones to compare with, spread alike.
    How much of these images is copied is measured where there are training images to compare with, and whether they
    show what was asked for, where there is something to tell that by; of mitigated images as well.
    Of a model that reads text the former are explained and, where there is a threshold, drawn again from the same seeds
    under the mitigation. `threshold` takes that of an earlier detection, or a number, as `run_detection` does.
    """
    asked = Examination(
        detection, generation, references, explanation, mitigation, copying, most, fpr, batch, overwrite, threshold
    )
    with Run(out, "audit", {"most": most}, overwrite=overwrite) as run:
        return int(finished(run, examined(model, prompts, out, asked, negatives=negatives))["failed"])


def examined(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path,
    asked: Examination,
    *,
    negatives: Sequence[Prompt] = (),
    drawn: Drawn | None = None,
) -> Made:
    """The parts of an audit, each a run in a folder of its own name; `drawn` says otherwise whose images are drawn."""
    whole = content_of([*prompts, *negatives])
    detect = partial(run_detection, negatives=negatives, fpr=asked.fpr, threshold=asked.threshold)
    found = detect(model, prompts, out / "detect", asked.detection, batch=asked.batch, overwrite=asked.overwrite)
    made = {"detect": found}
    rows = {r["id"]: r for r in read_rows(out / "detect", DetectRow) if r["status"] == "ok"}
    scored = [p for p in prompts if p.id in rows]
    suspects, others = drawn(rows) if drawn else to_draw(scored, rows, asked.most)
    draw = partial(run_generation, model, references=asked.references, scores=rows, content=whole)
    draw = partial(draw, batch=asked.batch, overwrite=asked.overwrite)
    made["generate"] = draw([*suspects, *others], out / "generate", asked.generation)
    if asked.copying and made["generate"]["images"]:  # where every image failed there is nothing to compare
        made["measure"] = asked.copying.run(out / "generate", out / "measure", overwrite=asked.overwrite)
    explains, limit = model.family.has_tokens and suspects, found["threshold"]
    if asked.explanation and explains:
        explain = partial(run_explanation, model, content_id=whole, batch=asked.batch, overwrite=asked.overwrite)
        made["explain"] = explain(suspects, out / "explain", asked.explanation)
    if asked.mitigation and explains and limit is not None:
        stopping = aimed(asked.mitigation, asked.detection, limit, found.get("units"))
        kept = replace(asked.generation, mitigations=(stopping,), baseline=True)
        made["mitigate"] = draw(suspects, out / "mitigate", kept, plain=out / "generate")
    if asked.copying and made.get("mitigate", {}).get("images") and "measure" in made:
        again = asked.copying.again
        made[MITIGATED] = again(out / "mitigate", out / MITIGATED, out / "measure", overwrite=asked.overwrite)
    return made


def finished(run: Run, made: Made) -> Json:
    """Finish an audit with the summaries of its parts, their failures and work added up; returns its summary."""
    totals = {key: round(sum(part[key] for part in made.values()), 3) for key in COUNTED}
    return run.finish(**made, **totals)


def aimed(mitigation: Mitigation, detection: Detection, threshold: float, units: str | None = None) -> Mitigation:
    """The mitigation with the detection's threshold as its target, where it descends the very score that was used."""
    takes = mitigation.name == "embedding_descent" and "target" not in mitigation.params
    same = mitigation.params.get("score", "noise_norm") == detection.method and set(detection.parameters) <= {"steps"}
    target = f"{threshold}:x0" if units == "x0" else threshold
    return replace(mitigation, params={**mitigation.params, "target": target}) if takes and same else mitigation


def to_draw(prompts: Sequence[Prompt], rows: Detected, most: int) -> tuple[list[Prompt], list[Prompt]]:
    """Flagged prompts from the highest score down, and unflagged ones to compare with, both evenly thinned."""
    ranked = sorted(prompts, key=lambda p: (-rows[p.id]["score"], p.id))
    unknown = all(rows[p.id]["flagged"] is None for p in ranked)
    flagged = [p for p in ranked if unknown or rows[p.id]["flagged"]]
    calm = [p for p in ranked if p not in flagged]
    return thinned(flagged, most), thinned(calm, max(1, most // 3))


def thinned(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most so many of the prompts, spread evenly over them, the first one among them."""
    count = min(most, len(prompts))
    return [prompts[k * len(prompts) // count] for k in range(count)]
