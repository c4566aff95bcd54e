"""The images of one arm and seed, each compared with its own picture and with every other one that was trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mnemoscope.experiments.arm import ArmDrawing
from mnemoscope.experiments.subjects import Subject, places_of, trained_image
from mnemoscope.features import Descriptor
from mnemoscope.generation.run import save_png
from mnemoscope.job.batching import chunks
from mnemoscope.job.seeds import seeds_of
from mnemoscope.measuring.complexity import entropy, jpeg_size
from mnemoscope.measuring.own import ROUNDING
from mnemoscope.mitigation.chosen import mitigated
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.rows import Row
from mnemoscope.training.data.dataset import TrainingSet

HELD_OUT = "held_out"  # group of pictures that nothing was trained on
SEEDS = 1000  # seeds of images from one seed of the experiment to the next


def image_rows(
    model: Denoiser,
    data: TrainingSet,
    whom: Sequence[Subject],
    drawing: ArmDrawing,
    describe: Descriptor,
    folder: Path,
    about: Row,
    samples: int,
) -> list[Row]:
    """A row for each image of each subject; `about` has the arm and the seed, `samples` how many were trained on."""
    places, trained = places_of(data), [trained_image(data, k) for k in range(len(data))]
    references = describe(trained)
    seeds = seeds_of(SEEDS * about["seed"], drawing.images)
    asked = [(s, places[s.key], seed) for s in whom for seed in seeds]
    expected = data.expected_views(samples)
    rows = []
    for part in chunks(asked, batch_size(model, "auto")):
        prompts = [data.possible(k)[0] for _, k, _ in part]
        with mitigated(model, drawing.chosen):
            images = model.generate(
                prompts,
                [seed for _, _, seed in part],
                num_inference_steps=drawing.num_inference_steps,
                guidance_scale=drawing.guidance_scale,
            )
        for (subject, k, seed), prompt, image, vector in zip(part, prompts, images, describe(images), strict=True):
            row = about | {
                "group": subject.group,
                "prompt": prompt,
                "picture": "/".join(subject.key),
                "seed_image": seed,
            }
            row["id"] = f"{about['arm']}-s{about['seed']}-{row['picture']}-{seed}"
            row["file"] = f"images/{about['arm']}-s{about['seed']}/{k:05d}-{seed}.png"
            save_png(image, folder / row["file"], {"prompt": prompt, "seed": seed, "arm": about["arm"]})
            quantities = {"entropy": entropy(trained[k]), "jpeg": jpeg_size(trained[k]), "views": float(expected[k])}
            rows.append(row | quantities | _compared(vector, references, k, data) | {"status": "ok"})
    return rows


def held_out_rows(data: TrainingSet, unseen: Sequence[Image.Image], describe: Descriptor, about: Row) -> list[Row]:
    """How alike pictures that nothing was trained on are to those that were: what similarity is worth nothing."""
    if not unseen:
        return []
    references = describe([trained_image(data, k) for k in range(len(data))])
    nearest = (describe(unseen) @ references.T).max(axis=1).tolist()
    base = about | {"group": HELD_OUT, "prompt": "", "status": "ok"}
    name = f"{about['arm']}-s{about['seed']}-{HELD_OUT}"
    return [base | {"id": f"{name}-{k}", "picture": f"{HELD_OUT}/{k}", "similarity": s} for k, s in enumerate(nearest)]


def _compared(vector: np.ndarray, references: np.ndarray, place: int, data: TrainingSet) -> Row:
    similarity = references @ vector
    nearest = int(np.argmax(similarity))
    is_nearest = bool(similarity[place] >= similarity[nearest] - ROUNDING)
    similarities = {"own_similarity": float(similarity[place]), "similarity": float(similarity[nearest])}
    return similarities | {"own_nearest": is_nearest, "match": f"{data.rows[nearest].group}/{data.rows[nearest].file}"}
