"""Whose captions are the prompts: the same pictures for all arms, as many of each group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.rows import image_of

SUBJECTS = 11  # part of the key of the draw
Key = tuple[str, str]  # group of the training set and file: what a picture is known by in every arm


@dataclass(frozen=True)
class Subject:
    """A picture whose caption is a prompt."""

    key: Key
    group: str


def subjects(sets: Sequence[TrainingSet], groups: Sequence[str], prompts: int, seed: int) -> list[Subject]:
    """Pictures that are in every set, the same number of each group and at most `prompts`, drawn by the seed.

    "duplicated" are pictures that any set duplicates, and "other" those of the data that none does; "memorized" and
    "base" are the two parts of a set. Raises `UsageError` for a group without a picture in all sets.
    """
    places = [places_of(data) for data in sets]
    common = [key for key in places[0] if all(key in each for each in places)]
    twice = {
        key
        for data, places_of_set in zip(sets, places, strict=True)
        for key, k in places_of_set.items()
        if _duplicated(data, k)
    }
    members: dict[str, list[Key]] = {
        "memorized": [key for key in common if key[0] == "memorized"],
        "base": [key for key in common if key[0] == "base"],
        "duplicated": [key for key in common if key in twice],
        "other": [key for key in common if key[0] == "memorized" and key not in twice],
    }
    if empty := next((group for group in groups if not members[group]), None):
        raise UsageError(
            f"measure: groups: no picture is {empty} in every arm; name another group, or change the data."
        )
    count = min(prompts, *(len(members[group]) for group in groups))
    rng = np.random.default_rng([seed, SUBJECTS])
    drawn = {group: sorted(rng.choice(len(members[group]), count, replace=False).tolist()) for group in groups}
    return [Subject(members[group][k], group) for group in groups for k in drawn[group]]


def places_of(data: TrainingSet) -> dict[Key, int]:
    """Where each picture is in a set."""
    return {(row.group, row.file): k for k, row in enumerate(data.rows)}


def trained_image(data: TrainingSet, index: int) -> Image.Image:
    """A row's picture as it is trained on, cropped in the middle."""
    pixels = data.framing.pixels(image_of(data.rows[index]), False) / 2 + 0.5
    return VaeImageProcessor.numpy_to_pil(pixels[None].permute(0, 2, 3, 1).numpy())[0]


def _duplicated(data: TrainingSet, index: int) -> bool:
    return bool(data.shares.duplicated[index])
