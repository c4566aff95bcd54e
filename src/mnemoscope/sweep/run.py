"""Mitigations over their strengths: what each takes from copying, and what it costs in alignment."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from mnemoscope import features
from mnemoscope.features.alignment import Aligner, by_chance, other_prompts
from mnemoscope.features.references import References
from mnemoscope.generation.run import Generation, match, row_id, save_png
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import content_of, samples
from mnemoscope.mitigation.chosen import mitigated
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.step import Seen
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import SweepRow, Unmitigated
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.sweep.comparing import copy_limit, enlarged, similarity_text
from mnemoscope.sweep.curves import SweepPoint, curve, write_curves


def run_sweep(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    generation: Generation,
    sweep: Sequence[SweepPoint],
    references: References,
    *,
    alignment: Aligner | None = None,
    replication_threshold: float | None = None,
    notes: Sequence[str] = (),
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Draw every prompt at every point, the same seeds for each, and return the summary with the curves and `notes`.

    An image replicates if its similarity to the training image of its own caption is at least `replication_threshold`,
    that of the references' descriptor if None. Raises `UsageError` where nobody has established one.
    """
    limit = copy_limit(references, replication_threshold)
    settings = {
        **asdict(generation),
        "points": [asdict(p) for p in sweep],
        "replication_threshold": limit,
        "measure": alignment.name if alignment else None,
        "content": content_of(prompts),
    }
    if by := references.descriptor:
        settings["features"] = asdict(by.identity)
    samples(prompts, generation.seed, generation.images)  # what is no seed is refused before the work
    others = other_prompts(p.text for p in prompts)

    def plan(run: Run) -> list[Pass[SweepRow]]:
        def at(point: SweepPoint) -> Pass[SweepRow]:
            work = partial(point_rows, model, run.folder, generation, point)
            known = partial(work, alignment=alignment, others=others, references=references)
            return Pass(point.name, known, partial(point_ids, point, generation))

        return [at(point) for point in sweep]

    def finish(run: Run, rows: list[SweepRow]) -> tuple[list[SweepRow], Json]:
        curves = [curve(rows, point, limit) for point in sweep]
        write_curves(curves, run.folder / "curves.csv")
        told = {"alignment": alignment.name if alignment else None, "similarity": similarity_text(references)}
        return rows, {
            "prompts": len(prompts),
            "curves": curves,
            "replication_threshold": limit,
            **told,
            **references.summary(),
            "notes": [*notes, *enlarged(references, run.folder, rows)],
        }

    size = Batch.of(model, batch, generation.images)
    return prompt_run(out, "sweep", SweepRow, settings, [model], prompts, size, plan, finish, overwrite=overwrite)


def point_ids(point: SweepPoint, generation: Generation, prompt: Prompt) -> list[str]:
    """The ids of a prompt's rows at a point."""
    return [f"{point.name}-{row_id(*each)}" for each in samples([prompt], generation.seed, generation.images)]


def point_rows(
    model: Denoiser,
    folder: Path,
    generation: Generation,
    point: SweepPoint,
    prompts: Sequence[Prompt],
    *,
    references: References,
    alignment: Aligner | None,
    others: Mapping[str, str],
) -> list[SweepRow]:
    """Draw a batch of prompts at one point; one row for each image, compared with the unmitigated one of its seed.

    `others` names for each prompt the one that tells what its images are aligned by chance.
    """
    pairs = samples(prompts, generation.seed, generation.images)
    texts = [p.text for p, _ in pairs]
    before, began = model.network_evaluations, time.perf_counter()
    with mitigated(model, [point.mitigation] if point.mitigation else [], generation.threshold) as log:
        images = model.generate(texts, [s for _, s in pairs], **generation.sampling)
    evaluations = (model.network_evaluations - before) / len(pairs)
    seconds = round((time.perf_counter() - began) / len(pairs), 4)
    nothing = np.full(len(pairs), np.nan)
    aligned = alignment.align(images, texts) if alignment else nothing
    chance = np.where(np.isnan(aligned), nothing, by_chance(alignment, images, texts, others) if alignment else nothing)
    rows: list[SweepRow] = []
    for k, ((prompt, seed), image) in enumerate(zip(pairs, images, strict=True)):
        file = f"images/{point.name}-{row_id(prompt, seed)}.png"
        save_png(image, folder / file, {"prompt": prompt.text, "seed": seed, "mitigation": point.name})
        row: SweepRow = {
            "id": f"{point.name}-{row_id(prompt, seed)}",
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "mitigation": point.method,
            "parameter": point.parameter,
            "strength": point.strength,
            "seed": seed,
            "file": file,
            "label": prompt.label,
            "kind": prompt.kind,
            "status": "ok",
            "evaluations": evaluations,
            "seconds": seconds,
            "alignment": _number(aligned[k]),
            "alignment_chance": _number(chance[k]),
            **_let_in(log[k] if log else None),
            **match(image, prompt, references, folder),
            **_against(image, folder / f"images/none-{row_id(prompt, seed)}.png"),
        }
        rows.append(row)
    return rows


class _LetIn(TypedDict, total=False):
    """Whether the mitigation was let in, where one was asked for."""

    flagged: bool | None


def _let_in(seen: Seen | None) -> _LetIn:
    return {} if seen is None else {"flagged": seen.get("flagged")}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _against(image: Image.Image, plain: Path) -> Unmitigated:
    """How alike an image is to the unmitigated one of its seed, and whether the two are the same bit for bit."""
    if not plain.exists():
        return {"baseline_similarity": None, "unchanged": None}  # it failed, which its own row says
    with Image.open(plain) as other:
        one, two = features.pixels([image, other])
        same = np.array_equal(np.asarray(image), np.asarray(other))
    return {"baseline_similarity": float(one @ two), "unchanged": same}
