"""Whether an edit removed what was memorized, or only its prompt: similarity before it, after it, and under attack."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnemoscope.features import Descriptor
from mnemoscope.generation.run import SamplingSettings, save_png
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import content_of, own_seeds, samples
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.text_embeddings import TextEmbeddings
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.recovery.adversarial import adversarial_embedding
from mnemoscope.run.image_rows import MemorizedAt, RecoverRow, Stage
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.stats import mean_interval, wilson_interval

STAGES: dict[Stage, MemorizedAt] = {
    "before": "memorized_before",
    "after": "memorized_after",
    "attacked": "memorized_attacked",
}
Edit = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Recovery:
    """How an edited model is attacked: the search for embeddings, where it begins, and the images drawn from them.

    `begin` is "prompt", "random" for noise, or any other text, whose embedding the search then begins at.
    """

    images: int = 4
    seed: int = 0
    num_inference_steps: int = 50
    guidance_scale: int | float | None = None  # the pipeline's own if None
    attack_steps: int = 50
    lr: int | float = 0.1
    attack_batch: int = 8
    begin: str = "prompt"
    threshold: int | float = 0.7

    @property
    def sampling(self) -> SamplingSettings:
        return {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}


@dataclass(frozen=True)
class Target:
    """An image to bring back, with the prompt that it was trained with; a control was never memorized."""

    prompt: Prompt
    image: Image.Image
    is_control: bool = False


def run_recovery(
    model: Denoiser,
    targets: Sequence[Target],
    out: Path | str,
    recovery: Recovery,
    descriptor: Descriptor,
    *,
    edit: Edit = nullcontext,
    edited: Denoiser | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
    told: Mapping[str, Any] | None = None,
) -> Json:
    """Draw every target's prompt before and after an edit and from adversarial embeddings after it; rows and a summary.

    The edit is a context on the model, or another model in its place; `told` goes into the summary. An image is
    memorized if its similarity to the target is above the threshold.
    """
    recovery = replace(recovery, guidance_scale=model.family.guidance(recovery.guidance_scale))
    settings = {**asdict(recovery), "content": content_of(t.prompt for t in targets)}
    samples([t.prompt for t in targets], recovery.seed, recovery.images)  # what is no seed is refused before the work
    record: Json = {"features": asdict(descriptor.identity)}
    if edited is not None:
        record["edited"] = edited.describe()

    known = {t.prompt.id: t for t in targets}
    work = partial(target_rows, model, edited or model, known, recovery, descriptor, edit)

    def plan(run: Run) -> list[Pass[RecoverRow]]:
        return [Pass("recover", partial(work, folder=run.folder))]

    def finish(run: Run, rows: list[RecoverRow]) -> tuple[list[RecoverRow], Json]:
        return rows, {**summary([r for r in rows if r["status"] == "ok"], recovery.threshold), **(told or {})}

    models, prompts = [model, *([edited] if edited else [])], [t.prompt for t in targets]
    size = Batch.of(model, batch, max(recovery.attack_batch, recovery.images), graph=True)
    return prompt_run(
        out, "recover", RecoverRow, settings, models, prompts, size, plan, finish, overwrite=overwrite, **record
    )


def target_rows(
    model: Denoiser,
    edited: Denoiser,
    known: Mapping[str, Target],
    recovery: Recovery,
    descriptor: Descriptor,
    edit: Edit,
    prompts: list[Prompt],
    folder: Path,
) -> list[RecoverRow]:
    """One row for each target of a batch, known by its prompt's id, its images saved."""
    targets = [known[p.id] for p in prompts]
    counted = edited.network_evaluations
    pairs = samples([t.prompt for t in targets], recovery.seed, recovery.images)
    drawn: Any = [p.text for p, _ in pairs], [seed for _, seed in pairs]
    images = {"before": model.generate(*drawn, **recovery.sampling)}
    with edit():
        images["after"] = edited.generate(*drawn, **recovery.sampling)
        embedding, losses = attack(edited, targets, recovery)
        every = {name: text.repeat_interleave(recovery.images, dim=0) for name, text in embedding.items()}
        with edited.edit("cond", lambda cond: {**cond, **{k: v.to(cond[k].dtype) for k, v in every.items()}}):
            images["attacked"] = edited.generate(*drawn, **recovery.sampling)
    if edited is not model:
        model.network_evaluations += edited.network_evaluations - counted
    return [_row(t, k, images, losses[k], recovery, descriptor, folder) for k, t in enumerate(targets)]


def attack(edited: Denoiser, targets: Sequence[Target], recovery: Recovery) -> tuple[dict[str, Any], list[list[float]]]:
    """Adversarial embeddings of the targets against the model as it is edited now."""
    prompts = [t.prompt.text for t in targets]
    sampler = edited.sampler(recovery.num_inference_steps, 1.0)
    _, start, _ = sampler.begin(prompts, [recovery.seed] * len(targets))
    cond = {**start.cond, **begun(edited, prompts, recovery)}  # under the edit's steering, embeddings of ours
    x0 = encode_images(edited.pipe, [t.image for t in targets], edited.latent_shape)
    return adversarial_embedding(
        edited,
        x0,
        cond,
        steps=recovery.attack_steps,
        lr=recovery.lr,
        batch=recovery.attack_batch,
        seed=recovery.seed,
    )


def begun(edited: Denoiser, prompts: Sequence[str], recovery: Recovery) -> dict[str, Any]:
    """Embeddings that a search begins at: of the prompts, of another text, or noise of their size for "random"."""
    named = prompts if recovery.begin in ("prompt", "random") else [recovery.begin] * len(prompts)
    cond = edited.encode(named)
    texts = TextEmbeddings(edited.family, cond, "An adversarial embedding stands in for")
    if recovery.begin != "random":
        return {name: cond[name] for name in texts.names}
    generator = torch.Generator().manual_seed(recovery.seed)
    noise = torch.cat([torch.randn(shape, generator=generator).flatten() for shape in texts.shapes])
    return texts.into({name: cond[name] for name in texts.names}, texts.unit * noise.to(texts.unit.device))


def _row(
    target: Target,
    place: int,
    images: Mapping[str, Sequence[Image.Image]],
    losses: Sequence[float],
    recovery: Recovery,
    descriptor: Descriptor,
    folder: Path,
) -> RecoverRow:
    prompt = target.prompt
    seeds = own_seeds(prompt, recovery.seed, recovery.images)
    reference = f"references/{prompt.id}.png"
    save_png(target.image, folder / reference, {"caption": prompt.text})
    vector = descriptor([target.image])[0]
    values: dict[str, list[float]] = {}
    files: dict[str, list[str]] = {}
    for stage, drawn in images.items():
        part = drawn[place * len(seeds) : (place + 1) * len(seeds)]
        values[stage] = (descriptor(part) @ vector).tolist()
        files[stage] = [f"images/{prompt.id}-{stage}-{seed}.png" for seed in seeds]
        for file, image in zip(files[stage], part, strict=True):
            save_png(image, folder / file, {"prompt": prompt.text, "stage": stage})
    is_back = {stage: max(each) > recovery.threshold for stage, each in values.items()}
    return {
        "id": prompt.id,
        "prompt": prompt.text,
        "seeds": list(seeds),
        "reference": reference,
        "control": target.is_control,
        "kind": prompt.kind,
        "label": prompt.label,
        "status": "ok",
        "before": values["before"],
        "before_files": files["before"],
        "memorized_before": is_back["before"],
        "after": values["after"],
        "after_files": files["after"],
        "memorized_after": is_back["after"],
        "attacked": values["attacked"],
        "attacked_files": files["attacked"],
        "memorized_attacked": is_back["attacked"],
        "loss": [losses[0], losses[-1]],
    }


def summary(rows: Sequence[RecoverRow], threshold: float) -> Json:
    """Similarity and memorization rate at each stage, of the targets and of the controls."""
    counts: Json = {"threshold": threshold, "targets": 0, "controls": 0}
    for name, is_control in (("targets", False), ("controls", True)):
        part = [row for row in rows if row["control"] is is_control]
        counts[name] = len(part)
        for stage in STAGES if part else ():
            key = stage if name == "targets" else f"control_{stage}"
            counts |= dict(_stage(part, stage, key))
    return counts


def _stage(rows: Sequence[RecoverRow], stage: Stage, key: str) -> Iterator[tuple[str, Any]]:
    best = np.array([max(row[stage]) for row in rows])
    kept = sum(row[STAGES[stage]] for row in rows)
    yield f"similarity_{key}", float(best.mean())
    yield f"similarity_{key}_interval", list(mean_interval(best)) if len(best) > 1 else None
    yield f"memorization_rate_{key}", kept / len(rows)
    yield f"memorization_rate_{key}_interval", list(wilson_interval(kept, len(rows)))
