"""Each training picture with what several models give of it: scores, likenesses of images, and what one adds."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from jaxtyping import Float

from mnemoscope.audit.changes import notes, summary
from mnemoscope.audit.run import Examination
from mnemoscope.audit.training_set import CONTROL, TRAINING, Controls, TrainingPictures
from mnemoscope.features import Cache
from mnemoscope.generation.run import save_png
from mnemoscope.measuring.generated import of_run
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.pictures import Picture
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import ArmScores, FinetuneRow, MeasureRow, PictureLikeness
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow, Kind, R
from mnemoscope.run.run import Run, read_json, read_rows

BASE, TUNED, REPAIRED, EXTRAPOLATED = "base", "tuned", "repaired", "extrapolated"
FINETUNE = "finetune"
Vector = Float[np.ndarray, " D"]


@dataclass(frozen=True)
class Arm:
    """The runs of one model in an audit: its detection, its images and what was measured of them, by prompt."""

    folder: Path
    cache: Cache

    @cached_property
    def detected(self) -> dict[str, DetectRow]:
        return {row["id"]: row for row in self._rows("detect", DetectRow) if row["status"] == "ok"}

    @cached_property
    def threshold(self) -> float | None:
        file = self.folder / "detect" / "summary.json"
        return read_json(file).get("threshold") if file.is_file() else None

    @cached_property
    def images(self) -> dict[str, list[tuple[str, int, Vector]]]:
        """File, seed and vector of each image of a prompt; images that cannot be read are left out."""
        drawn = of_run(self.folder / "generate")
        vectors, failures = self.cache.vectors([g.picture for g in drawn])
        kept = [g for k, g in enumerate(drawn) if k not in failures]
        found: dict[str, list[tuple[str, int, Vector]]] = {}
        for generated, vector in zip(kept, vectors, strict=True):
            found.setdefault(generated.prompt_id, []).append((generated.picture.key, generated.seed or 0, vector))
        return found

    @cached_property
    def nearest(self) -> dict[str, list[float]]:
        """PictureLikeness of each of a prompt's images to whichever training picture is nearest to it."""
        found: dict[str, list[float]] = {}
        for row in self._rows("measure", MeasureRow):
            if row["status"] == "ok" and (score := row.get("score")) is not None:
                found.setdefault(row["prompt_id"], []).append(score)
        return found

    def _rows(self, part: str, kind: Kind[R]) -> list[R]:
        folder = self.folder / part
        return read_rows(folder, kind) if (folder / "rows.jsonl").is_file() else []


def compared(
    folders: Mapping[str, Path],
    data: TrainingPictures,
    controls: Controls,
    tuned: Denoiser,
    out: Path,
    asked: Examination,
) -> Json:
    """The rows and the summary of the models side by side, as a run; returns the summary."""
    assert asked.copying is not None
    descriptor = asked.copying.descriptor
    cache, identity = Cache(asked.copying.cache or out / "features", descriptor), asdict(descriptor.identity)
    arms = {name: Arm(folder, cache) for name, folder in folders.items()}
    measured = read_json(folders[TUNED] / "measure" / "summary.json")
    settings = {"arms": list(arms), "controls_made": controls.made, "most": asked.most, "data": data.source}
    with Run(out, FINETUNE, settings, overwrite=asked.overwrite, features=identity, model=tuned.describe()) as run:
        limit = float(measured["threshold"])
        rows = [*picture_rows(arms, data, cache, limit, out), *(control_row(arms, p, limit) for p in controls.drawn)]
        run.replace_rows(rows)
        told: Json = {"threshold": limit, "controls_made": controls.made, "picture_captions": data.counts}
        told |= {f"threshold_{name}": arm.threshold for name, arm in arms.items()}
        found = summary([row for row in rows if row["status"] == "ok"])
        return run.finish(**told, **found, notes=notes(found, made=controls.made), **identity)


def picture_rows(
    arms: Mapping[str, Arm], data: TrainingPictures, cache: Cache, limit: float, folder: Path
) -> Iterator[FinetuneRow]:
    """A row for each training picture; one that cannot be read is a failed row."""
    texts = {prompt.id: prompt.text for prompt in data.prompts}
    vectors, failures = cache.vectors(data.pictures)
    readable = iter(vectors)
    for place, (picture, prompt_id) in enumerate(zip(data.pictures, data.prompt_ids, strict=True)):
        of: _Of = {"id": picture.key, "prompt": texts[prompt_id], "prompt_id": prompt_id, "kind": TRAINING}
        if place in failures:
            yield cast(FinetuneRow, {**of, "status": "failed", "error": failures[place]})
            continue
        alike = likeness(arms, prompt_id, next(readable), limit)
        kept: _Kept = {"reference": _kept(picture, folder, place)} if alike["similarities"] else {}
        yield {
            **of,
            "control": False,
            **scored(arms, prompt_id),
            **alike,
            **kept,
            "added": added(alike["similarities"]),
            "status": "ok",
        }


class _Of(TypedDict):
    """What a row is about."""

    id: str
    prompt: str
    prompt_id: str
    kind: str


class _Kept(TypedDict, total=False):
    """The file of a picture of which something was drawn."""

    reference: str


def control_row(arms: Mapping[str, Arm], prompt: Prompt, limit: float) -> FinetuneRow:
    """The row of a caption that the fine-tune has not seen: its images are compared with all training pictures."""
    near = {name: arm.nearest[prompt.id] for name, arm in arms.items() if prompt.id in arm.nearest}
    best = {name: max(values) for name, values in near.items()}
    similarities = {name: float(np.mean(values)) for name, values in near.items()}
    return {
        "id": prompt.id,
        "prompt": prompt.text,
        "prompt_id": prompt.id,
        "kind": CONTROL,
        "control": True,
        "similarities": similarities,
        "best": best,
        "copied": {name: value > limit for name, value in best.items()},
        **scored(arms, prompt.id),
        "like_base": like_base(arms, prompt.id),
        "added": added(similarities),
        "status": "ok",
    }


def scored(arms: Mapping[str, Arm], prompt_id: str) -> ArmScores:
    """Score and flag of a prompt by each model that was asked."""
    rows = {name: arm.detected[prompt_id] for name, arm in arms.items() if prompt_id in arm.detected}
    return {
        "scores": {name: row["score"] for name, row in rows.items()},
        "flags": {name: row.get("flagged") for name, row in rows.items()},
    }


def likeness(arms: Mapping[str, Arm], prompt_id: str, own: Vector, limit: float) -> PictureLikeness:
    """How like a picture the images of its caption are: on average, at best, in which file, and whether it is back."""
    found: PictureLikeness = {"similarities": {}, "best": {}, "copied": {}, "best_files": {}, "like_base": {}}
    for name, arm in arms.items():
        values = [(float(vector @ own), file) for file, _, vector in arm.images.get(prompt_id, ())]
        if values:
            best, file = max(values)
            found["similarities"][name] = float(np.mean([value for value, _ in values]))
            found["best"][name], found["copied"][name] = best, best > limit
            found["best_files"][name] = f"{'' if name == TUNED else name + '/'}generate/{file}"
    return {**found, "like_base": like_base(arms, prompt_id)}


def like_base(arms: Mapping[str, Arm], prompt_id: str) -> dict[str, float]:
    """Mean likeness of a prompt's images to those that the base draws from the same seeds."""
    plain = {seed: vector for _, seed, vector in arms[BASE].images.get(prompt_id, ())}
    found = {}
    for name, arm in arms.items():
        pairs = [float(vector @ plain[seed]) for _, seed, vector in arm.images.get(prompt_id, ()) if seed in plain]
        if pairs and name != BASE:
            found[name] = float(np.mean(pairs))
    return found


def added(values: Mapping[str, float]) -> float | None:
    """What the fine-tune added: its likeness over the base's; None where one of them has no image."""
    return values[TUNED] - values[BASE] if {TUNED, BASE} <= set(values) else None


def _kept(picture: Picture, folder: Path, place: int) -> str:
    file = f"references/{place:06d}.png"
    if not (folder / file).exists():
        save_png(picture.image(), folder / file, {"caption": picture.caption or ""})
    return file
