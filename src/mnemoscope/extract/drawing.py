"""Whole images of a prompt from several seeds, and whether these are copies of one another."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from mnemoscope.extract.edges import edge_consistency
from mnemoscope.extract.settings import Extraction
from mnemoscope.features import Descriptor
from mnemoscope.features.references import References
from mnemoscope.generation.run import save_png
from mnemoscope.job.seeds import own_seeds, samples
from mnemoscope.measures.cliques import largest_clique
from mnemoscope.measures.seed_agreement import agreement_by_prompt
from mnemoscope.measuring.same_size import squashed
from mnemoscope.measuring.tiles import tiled_distance
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.extract_rows import ExtractRow


def draw_rows(
    model: Denoiser,
    folder: Path | None,
    extraction: Extraction,
    prompts: list[Prompt],
    *,
    descriptor: Descriptor,
    references: References | None = None,
) -> list[ExtractRow]:
    """A row for each prompt: its images, saved where there is a folder, and how far they are copies of one another."""
    pairs = samples(prompts, extraction.seed, extraction.images)
    firsts: list[Image.Image] = []
    for step in model.steps([p.text for p, _ in pairs], [s for _, s in pairs], **extraction.sampling):
        if step.index == 0:
            firsts = _decoded(model, step.x0_hat.to(model.family.state_dtype))
        last = step.x_prev
    assert last is not None
    images = _decoded(model, last)
    rows = []
    for k, prompt in enumerate(prompts):
        own = slice(k * extraction.images, (k + 1) * extraction.images)
        row = compared(prompt, images[own], extraction, descriptor)
        row |= {"edges": edge_consistency(firsts[own]), "seeds": own_seeds(prompt, extraction.seed, extraction.images)}
        rows.append(_matched(_saved(row, images[own], folder), images[own], references))
    return rows


def _decoded(model: Denoiser, latents: Tensor) -> list[Image.Image]:
    return VaeImageProcessor.numpy_to_pil(model.decode(latents).cpu().permute(0, 2, 3, 1).numpy())


def compared(
    prompt: Prompt, images: Sequence[Image.Image], extraction: Extraction, descriptor: Descriptor
) -> ExtractRow:
    """What the images of a prompt say of one another: agreement, distances, the largest clique."""
    distances = apart(images, extraction.tiles)
    clique = largest_clique(distances < extraction.below).members
    vectors = descriptor(list(images))
    agreement = agreement_by_prompt(vectors, [prompt.id] * len(images), threshold=0)[0]["agreement"]
    nearest = np.where(np.eye(len(images), dtype=bool), np.inf, distances).min(axis=1)
    return {
        "id": f"{prompt.id}-draw",
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "stage": "draw",
        "agreement": float(agreement),
        "distances": nearest.tolist(),
        "clique": len(clique),
        "alike": [k in clique for k in range(len(images))],
        "hit": len(clique) >= extraction.least,
        "status": "ok",
    }


def apart(images: Sequence[Image.Image], tiles: int, side: int | None = None) -> Float[np.ndarray, "N N"]:
    """Tiled distance of each image to each, at the size of the first one."""
    pixels = squashed(images, side or max(images[0].size))
    return tiled_distance(pixels, pixels, tiles=tiles)


def same_image(one: Image.Image, others: Sequence[Image.Image], below: float, tiles: int) -> Bool[np.ndarray, " N"]:
    """Whether an image is a copy of each of some others, by their tiled distance."""
    if not others:
        return np.zeros(0, bool)
    side = max(one.size)
    return tiled_distance(squashed([one], side), squashed(others, side), tiles=tiles)[0] < below


def _saved(row: ExtractRow, images: Sequence[Image.Image], folder: Path | None) -> ExtractRow:
    files = [f"images/{row['prompt_id']}-{seed}.png" for seed in row["seeds"]]
    if folder is not None:
        for file, image in zip(files, images, strict=True):
            save_png(image, folder / file, {"prompt": row["prompt"]})
    return {**row, "files": files, "file": files[row["alike"].index(True)]}


def _matched(row: ExtractRow, images: Sequence[Image.Image], references: References | None) -> ExtractRow:
    if references is None:
        return row
    best = references.nearest([images[row["alike"].index(True)]])[0][0]
    found = references.items[int(best)]
    vectors = np.concatenate([references.vectors_of([image]) for image in images])
    similarities = vectors @ references.vectors[int(best)]
    return {**row, "match": found.key, "match_caption": found.caption, "similarities": similarities.tolist()}
