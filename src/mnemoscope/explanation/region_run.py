"""Region maps over a list of prompts: one row an image, with its map, what stands out of it, and the truth."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from mnemoscope.explanation import regions
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.masks import Mask, resized
from mnemoscope.generation.run import row_id, save_png
from mnemoscope.job.seeds import samples
from mnemoscope.methods import by_name as api
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.plots.regions import cutout, overlay
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import RegionFiles, RegionRow
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import write_whole

LARGEST = 256  # pixels of a side at which maps are thresholded and compared


def region_rows(model: Denoiser, prompts: Sequence[Prompt], explanation: Explanation, folder: Path) -> list[RegionRow]:
    """One row for each image of a batch of prompts, with its files: the image and its map."""
    pairs = samples(prompts, explanation.seed, explanation.seeds)
    trajectory = Trajectory(
        model,
        [p.text for p, _ in pairs],
        [s for _, s in pairs],
        num_inference_steps=explanation.num_inference_steps,
        guidance_scale=explanation.guidance_scale,
    )
    maps = api.explain(trajectory, explanation.method, **explanation.parameters).float().cpu()
    last = trajectory.all()[-1].x_prev
    assert last is not None
    images = VaeImageProcessor.numpy_to_pil(model.decode(last).cpu().permute(0, 2, 3, 1).numpy())
    rows: list[RegionRow] = []
    for (prompt, seed), image, heat in zip(pairs, images, maps, strict=True):
        if not heat.isfinite().all():
            raise ValueError("the map is not finite")
        name = row_id(prompt, seed)
        row: RegionRow = {
            "id": name,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "seed": seed,
            "file": f"images/{name}.png",
            "map": f"arrays/{name}.safetensors",
            "method": explanation.method,
            "params": explanation.parameters,
            "status": "ok",
            "peak": float(heat.max()),
            "mean": float(heat.mean()),
        }
        save_png(image, folder / row["file"], {"prompt": prompt.text, "seed": seed, "model": model.source})
        _save_map(heat, folder / row["map"])
        rows.append(row)
    return rows


def finished(folder: Path, rows: Iterable[RegionRow], masks: Mapping[str, Mask] | None) -> tuple[list[RegionRow], Json]:
    """Rows with pictures of their maps, all on one scale, and their overlap with the truth; and that of them all.

    What stands out of a map is above its own Otsu threshold. Maps are judged at the size of the images, at most 256
    pixels a side.
    """
    done = list(rows)
    made = [row for row in done if row["status"] == "ok"]
    if not made:
        return done, {}
    with Image.open(folder / made[0]["file"]) as image:
        size = (min(image.height, LARGEST), min(image.width, LARGEST))
    raw = np.stack([load_file(folder / row["map"])["map"].numpy() for row in made])
    maps = regions.upsampled(raw, size)
    heats = regions.scaled(maps)
    standing_out = regions.above(heats, np.array([regions.otsu(heat) for heat in heats]))
    truths = {p: resized(mask, size) for p, mask in (masks or {}).items()}
    for row, heat, region in zip(made, heats, standing_out, strict=True):
        row |= {"share": float(region.mean())}
        if (truth := truths.get(row["prompt_id"])) is not None:
            row |= {"iou": float(regions.iou(regions.counts(region[None], truth[None])))}
        row |= _drawn(folder, row, heat, region, truth)
    judged = [k for k, row in enumerate(made) if row["prompt_id"] in truths]
    if not judged:
        return done, {}
    truth, names = np.stack([truths[made[k]["prompt_id"]] for k in judged]), [made[k]["prompt_id"] for k in judged]
    return done, {"judged": len(judged), "overlap": regions.evaluated(maps[judged], truth, names)}


def _drawn(
    folder: Path, row: RegionRow, heat: Float[np.ndarray, "H W"], region: Mask, truth: Mask | None
) -> RegionFiles:
    """The files of a map's pictures: laid over its image, what stands out, and the truth."""
    pictures = {}
    with Image.open(folder / row["file"]) as image:
        pictures = {"overlay": overlay(image, heat), "region": cutout(image, region)}
        if truth is not None:
            pictures["truth"] = cutout(image, truth)
    files = {name: f"images/{row['id']}-{name}.png" for name in pictures}
    for name, picture in pictures.items():
        save_png(picture, folder / files[name], {"of": row["file"], "picture": name})
    return cast(RegionFiles, files)


def _save_map(values: Float[Tensor, "h w"], file: Path) -> None:
    write_whole(file, save({"map": values.contiguous()}))
