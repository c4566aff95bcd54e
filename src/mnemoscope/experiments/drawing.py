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
from mnemoscope.run.training_rows import ExperimentRow, TrainedLikeness
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
    arm: str,
    seed: int,
    samples: int,
) -> list[ExperimentRow]:
    """A row for each image of each subject, of an arm that was trained with a seed on so many `samples`."""
    places, trained = places_of(data), [trained_image(data, k) for k in range(len(data))]
    references = describe(trained)
    seeds = seeds_of(SEEDS * seed, drawing.images)
    asked = [(s, places[s.key], drawn_from) for s in whom for drawn_from in seeds]
    expected = data.expected_views(samples)
    rows: list[ExperimentRow] = []
    for part in chunks(asked, batch_size(model, "auto")):
        prompts = [data.possible(k)[0] for _, k, _ in part]
        with mitigated(model, drawing.chosen):
            images = model.generate(
                prompts,
                [drawn_from for _, _, drawn_from in part],
                num_inference_steps=drawing.num_inference_steps,
                guidance_scale=drawing.guidance_scale,
            )
        for (subject, k, drawn_from), prompt, image, vector in zip(
            part, prompts, images, describe(images), strict=True
        ):
            picture, file = "/".join(subject.key), f"images/{arm}-s{seed}/{k:05d}-{drawn_from}.png"
            save_png(image, folder / file, {"prompt": prompt, "seed": drawn_from, "arm": arm})
            row: ExperimentRow = {
                "arm": arm,
                "seed": seed,
                "group": subject.group,
                "prompt": prompt,
                "picture": picture,
                "seed_image": drawn_from,
                "id": f"{arm}-s{seed}-{picture}-{drawn_from}",
                "file": file,
                "entropy": entropy(trained[k]),
                "jpeg": jpeg_size(trained[k]),
                "views": float(expected[k]),
                **_compared(vector, references, k, data),
                "status": "ok",
            }
            rows.append(row)
    return rows


def held_out_rows(
    data: TrainingSet, unseen: Sequence[Image.Image], describe: Descriptor, arm: str, seed: int
) -> list[ExperimentRow]:
    """How alike pictures that nothing was trained on are to those that were: what similarity is worth nothing."""
    if not unseen:
        return []
    references = describe([trained_image(data, k) for k in range(len(data))])
    nearest = (describe(unseen) @ references.T).max(axis=1).tolist()
    return [
        {
            "arm": arm,
            "seed": seed,
            "group": HELD_OUT,
            "prompt": "",
            "status": "ok",
            "id": f"{arm}-s{seed}-{HELD_OUT}-{k}",
            "picture": f"{HELD_OUT}/{k}",
            "similarity": similarity,
        }
        for k, similarity in enumerate(nearest)
    ]


def _compared(vector: np.ndarray, references: np.ndarray, place: int, data: TrainingSet) -> TrainedLikeness:
    similarity = references @ vector
    nearest = int(np.argmax(similarity))
    is_nearest = bool(similarity[place] >= similarity[nearest] - ROUNDING)
    return {
        "own_similarity": float(similarity[place]),
        "similarity": float(similarity[nearest]),
        "own_nearest": is_nearest,
        "match": f"{data.rows[nearest].group}/{data.rows[nearest].file}",
    }
