"""What a fine-tune was trained on, as an audit sees it: captions to draw, pictures that may come back, and controls."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from mnemoscope.detection.concluding import apart
from mnemoscope.errors import UsageError
from mnemoscope.pictures import Picture, open_source
from mnemoscope.pictures.columns import folded
from mnemoscope.pictures.counting import CaptionCounts, caption_counts
from mnemoscope.prompts.prompt import Prompt, as_prompts

TRAINING, CONTROL = "training", "control"  # kinds of prompts
TRIES = 200  # words drawn for one control before the captions are found to have too few


@dataclass(frozen=True)
class TrainingPictures:
    """Captioned pictures of a source and the id of each one's prompt; `prompts` has one prompt for each caption.

    `counts` says how many pictures of the source have a caption.
    """

    source: str
    pictures: tuple[Picture, ...]
    prompt_ids: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    counts: CaptionCounts


def training_pictures(
    source: str, *, captions: Path | None = None, column: str | None = None, start: int = 0, limit: int | None = None
) -> TrainingPictures:
    """The pictures of a source, as `read_pictures` takes it, behind the first `start`; each one's first caption counts.

    Raises `UsageError` for a source that is none, and where no picture has a caption.
    """
    opened = open_source(source, captions=captions, column=column)
    listed = list(islice(opened, start, None if limit is None else start + limit))
    told = [p for p in listed if p.caption]
    if not told:
        why = f"None of the {len(listed)} pictures of {source} has a caption"
        raise UsageError(f"{why}; put a text of the same name beside each picture, or give --captions.")
    prompts = as_prompts(dict.fromkeys(str(p.caption) for p in told))
    known = {prompt.text: prompt.id for prompt in prompts}
    return TrainingPictures(
        source,
        tuple(told),
        tuple(known[str(p.caption)] for p in told),
        tuple(replace(prompt, kind=TRAINING) for prompt in prompts),
        caption_counts([bool(p.caption) for p in listed], opened),
    )


@dataclass(frozen=True)
class Controls:
    """Captions that a fine-tune has not seen: they set each model's threshold, and some of them are drawn.

    `made` says that they were made of the training captions' words.
    """

    prompts: tuple[Prompt, ...]
    made: bool

    @property
    def drawn(self) -> list[Prompt]:
        """The controls under the ids that they have in a detection."""
        return [replace(apart(prompt), kind=CONTROL) for prompt in self.prompts]


def controls_of(data: TrainingPictures, given: Sequence[Prompt], *, fpr: float, seed: int) -> Controls:
    """The captions that were given, or made ones: as many as there are training captions, and 1 / fpr at least.

    Raises `UsageError` for a given one that is a training caption.
    """
    trained = {folded(prompt.text) for prompt in data.prompts}
    if seen := [prompt.text for prompt in given if folded(prompt.text) in trained]:
        raise UsageError(
            f"{len(seen)} of the {len(given)} negatives are captions of {data.source}, “{seen[0][:80]}” among them; "
            "give captions that the fine-tune has not seen."
        )
    count = max(len(data.prompts), math.ceil(round(1 / fpr, 6)) if 0 < fpr < 1 else 0)
    texts = [] if given else recombined([prompt.text for prompt in data.prompts], count, seed)
    kept = given or as_prompts(texts)
    return Controls(tuple(replace(prompt, kind=CONTROL) for prompt in kept), made=not given)


def recombined(captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Texts of the captions' own words and lengths that are none of the captions, nor twice the same.

    Word k of a text is word k of a caption drawn at random among those that are long enough. Raises `UsageError` where
    the captions are too few or too alike.
    """
    rng, words = random.Random(seed), [caption.split() for caption in captions]
    seen, found = {folded(caption) for caption in captions}, list[str]()
    while len(found) < count:
        text = next((t for t in (_mixed(words, rng) for _ in range(TRIES)) if t not in seen), None)
        if text is None:
            raise UsageError(
                f"The {len(captions)} captions are too few or too alike to make {count} others of their words; "
                "give captions that the fine-tune has not seen as --negatives."
            )
        seen.add(text)
        found.append(text)
    return found


def _mixed(words: Sequence[Sequence[str]], rng: random.Random) -> str:
    length = len(rng.choice(words))
    return folded(" ".join(rng.choice([own[k] for own in words if len(own) > k]) for k in range(length)))
