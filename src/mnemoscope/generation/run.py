"""Images for a list of prompts, each beside its nearest training image where references are given."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, cast

from PIL import Image

from mnemoscope import features
from mnemoscope.features.references import References
from mnemoscope.generation.rewritten import rewriting_summary
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import content_of, samples
from mnemoscope.mitigation.chosen import Mitigation, mitigated
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import DetectorFlag, GenerateRow, NearestPicture, UnmitigatedTwin
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import OwnCaption, ReadRow
from mnemoscope.run.run import Run
from mnemoscope.run.writing import write_whole


class SamplingSettings(TypedDict):
    """How a sampling goes, as `Denoiser.generate` takes it; without a guidance scale it has the pipeline's own."""

    num_inference_steps: int
    guidance_scale: int | float | None


@dataclass(frozen=True)
class Generation:
    """How images are sampled: how many a prompt, from which seed on, with which solver settings and mitigations.

    With a `threshold`, only images whose first step passes it are mitigated; `baseline` draws each image without any
    mitigation as well, from the same seed.
    """

    images: int = 4
    seed: int = 0
    num_inference_steps: int = 50
    guidance_scale: int | float | None = None  # the pipeline's own if None
    mitigations: tuple[Mitigation, ...] = ()
    threshold: int | float | str | None = None
    baseline: bool = False

    @property
    def sampling(self) -> SamplingSettings:
        return {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}


def run_generation(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    generation: Generation,
    *,
    references: References | None = None,
    scores: Mapping[str, ReadRow] | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
    content: str | None = None,
    plain: Path | None = None,
) -> Json:
    """Sample all images into a run and return its summary; `scores` are rows of a detection, by prompt id.

    `content` identifies the run in the place of its prompts, where these may change from one session to the next.
    `plain` is a run that has the unmitigated images already, so that a baseline need not be drawn again.
    """
    generation = replace(generation, guidance_scale=model.family.guidance(generation.guidance_scale))
    settings = {**asdict(generation), "content": content or content_of(prompts)}
    samples(prompts, generation.seed, generation.images)  # what is no seed is refused before the work

    def plan(run: Run) -> list[Pass[GenerateRow]]:
        work = partial(image_rows, model, run.folder, generation, references, scores or {}, plain=plain)
        return [
            Pass("generate", work, lambda p: [row_id(*e) for e in samples([p], generation.seed, generation.images)])
        ]

    def finish(run: Run, rows: list[GenerateRow]) -> tuple[list[GenerateRow], Json]:
        told: Mapping[str, object] = references.summary() if references else {}
        images = sum(row["status"] == "ok" for row in rows)
        return rows, {"prompts": len(prompts), "images": images, **told, **rewriting_summary(rows)}

    size = Batch.of(model, batch, generation.images)
    return prompt_run(out, "generate", GenerateRow, settings, [model], prompts, size, plan, finish, overwrite=overwrite)


def row_id(prompt: Prompt, seed: int) -> str:
    """Identity of one image: its prompt and its seed."""
    return f"{prompt.id}-{seed}"


def image_rows(
    model: Denoiser,
    folder: Path,
    generation: Generation,
    references: References | None,
    scores: Mapping[str, ReadRow],
    prompts: Sequence[Prompt],
    *,
    plain: Path | None = None,
) -> list[GenerateRow]:
    """Sample and save the images of a batch of prompts; one row for each image."""
    pairs = samples(prompts, generation.seed, generation.images)
    asked = [p.text for p, _ in pairs], [s for _, s in pairs]
    with mitigated(model, generation.mitigations, generation.threshold) as log:
        images = model.generate(*asked, **generation.sampling)
    unmitigated: Sequence[Image.Image]
    known = [plain / f"images/{row_id(p, s)}.png" for p, s in pairs] if plain else []
    if known and all(file.exists() for file in known):
        unmitigated = [Image.open(file) for file in known]
    else:
        unmitigated = model.generate(*asked, **generation.sampling) if generation.baseline else []
    rows: list[GenerateRow] = []
    for k, ((prompt, seed), image) in enumerate(zip(pairs, images, strict=True)):
        file = f"images/{row_id(prompt, seed)}.png"
        save_png(image, folder / file, {"prompt": prompt.text, "seed": seed, "model": model.source})
        row: GenerateRow = {
            "id": row_id(prompt, seed),
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "seed": seed,
            "file": file,
            **reference_of(prompt),
            "mitigation": [],
            "label": prompt.label,
            "kind": prompt.kind,
            "status": "ok",
        }
        row |= _flagged(scores.get(prompt.id, {}))
        if generation.mitigations:
            row |= {"mitigation": log[k].get("mitigation", []), "seen": log[k]}
            row |= _flagged(log[k])
        row |= _paired(image, unmitigated[k], row["id"], folder) if generation.baseline else {}
        if references:
            row = {**row, **match(image, prompt, references, folder)}
        rows.append(row)
    return rows


def reference_of(prompt: Prompt) -> OwnCaption:
    """The caption whose pictures are a prompt's own, where that is not its text."""
    return {"reference_caption": prompt.reference} if prompt.reference != prompt.text else {}


def _flagged(said: Mapping[str, Any]) -> DetectorFlag:
    """Score and flag of what looked at a prompt, as far as it says them."""
    return cast(DetectorFlag, {k: said[k] for k in ("score", "flagged") if k in said})


def _paired(image: Image.Image, plain: Image.Image, name: str, folder: Path) -> UnmitigatedTwin:
    """The image that the same seed gives without any mitigation, and how alike the two are."""
    file = f"images/{name}-baseline.png"
    save_png(plain, folder / file, {"mitigation": []})
    one, other = features.pixels([image, plain])
    return {"baseline": file, "baseline_similarity": float(one @ other)}


def match(image: Image.Image, prompt: Prompt, references: References, folder: Path) -> NearestPicture:
    """The reference nearest to an image, copied into the run, and the cosines with it and with the prompt's own."""
    best, similarity, own = references.beside(image, prompt.reference)
    match = references.items[best]
    file = f"references/{best:06d}.png"
    if not (folder / file).exists():
        save_png(match.image(), folder / file, {"caption": match.caption or ""})
    return {
        "match": file,
        "match_file": match.key,
        "match_caption": match.caption,
        "similarity": similarity,
        "own_similarity": own,
    }


def save_png(image: Image.Image, file: Path, text: Mapping[str, Any]) -> None:
    """Write an image whole or not at all, with what it came from as PNG text."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("mnemoscope", json.dumps(text, ensure_ascii=False))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    write_whole(file, buffer.getvalue())
