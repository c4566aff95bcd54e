"""Finished images held against an index of training images, and drawn again while they are copies of one."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, comparable, descriptor
from mnemoscope.model.step import Seen
from mnemoscope.search import Index, search_index
from mnemoscope.search.searching import rows_at

AGAIN = ("mitigate", "seed")  # how a copy is drawn again, from another seed in either case
Draw = Callable[[Mapping[str, Any]], tuple[Any, list[Seen]]]  # a call's arguments: its output, and what was seen
TEXTS = ("prompt", "negative_prompt")  # beginnings of the names of arguments that have one value a prompt


@dataclass(frozen=True)
class Match:
    """The training image that an image is most similar to, and whether that makes it a copy."""

    similarity: float
    nearest: str
    copied: bool


class Lookout:
    """An index of training images, by which an image is a copy if its similarity to one of them is above a threshold.

    `index` is a folder that `mnemoscope index build` wrote, or an open index; `features` what it was made with, where
    that is none of the packaged descriptors; `similarity` the threshold, the descriptor's own if none. Raises
    `UsageError` for features that are not the index's, and for a descriptor without a threshold.
    """

    def __init__(
        self, index: Index | Path | str, *, similarity: float | None = None, features: Descriptor | None = None
    ) -> None:
        self.index = index if isinstance(index, Index) else Index.open(index)
        identity = self.index.identity
        self.features = features or descriptor(identity.features, preset=identity.preset)
        comparable(self.features.identity, identity)
        limit = self.features.threshold if similarity is None else similarity
        if limit is None:
            raise UsageError(f"{identity} has no usual similarity of a copy; give similarity=NUMBER.")
        self.similarity = float(limit)

    def look(self, images: Sequence[Image.Image]) -> list[Match]:
        """The match of each image. Raises `UsageError` where a part of the index cannot be read."""
        found = search_index(self.index, self.features(images), 1)
        if found.gaps:
            gap = found.gaps[0]
            raise UsageError(f"Shard {gap.shard} of the index cannot be searched ({gap.reason}); build it again.")
        names = rows_at(self.index, found.places)
        pairs = zip(found.scores[:, 0].tolist(), found.places[:, 0].tolist(), strict=True)
        return [Match(score, str(names[place]["key"]), score > self.similarity) for score, place in pairs]


def refuse_unseen(asked: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a call whose images cannot be looked at, or not be drawn again."""
    if asked.get("output_type", "pil") != "pil":
        raise UsageError(f"A Guard with an index looks at images; leave out output_type={asked['output_type']}.")
    if asked.get("prompt") is None:
        raise UsageError("A Guard with an index draws again from prompts; give prompt, and no prompt_embeds.")


def without_copies(
    images: list[Image.Image],
    seen: list[Seen],
    lookout: Lookout,
    asked: Mapping[str, Any],
    draw: Draw,
    most: int,
) -> None:
    """Put other images in the place of copies, drawn from other seeds `most` times at the most, and say so in `seen`.

    What is a copy still is withheld: a black image takes its place. `draw` draws one image from a call's arguments.
    """
    for place, (image, match) in enumerate(zip(list(images), lookout.look(images), strict=True)):
        attempts = [{**asdict(match), "mitigated": bool(seen[place].get("mitigation"))}]
        while match.copied and len(attempts) <= most:
            seed = _seed(asked.get("generator"), place, len(attempts))
            output, again = draw(_alone(asked, place, len(images), seed))
            image = output[0][0]
            (match,) = lookout.look([image])
            attempts.append({**asdict(match), "mitigated": bool(again[0].get("mitigation")), "seed": seed})
        images[place] = Image.new("RGB", image.size) if match.copied else image
        seen[place].update(attempts=attempts, copied=attempts[0]["copied"], withheld=match.copied)


def _seed(generator: Any, place: int, attempt: int) -> int:
    """Seed of another attempt: it follows from the caller's generator, where there is one."""
    if generator is None:
        return int(torch.randint(2**31, ()))
    own = generator[place] if isinstance(generator, list | tuple) else generator
    return zlib.crc32(f"{own.initial_seed()}|{place}|{attempt}".encode())


def _alone(asked: Mapping[str, Any], place: int, count: int, seed: int) -> Mapping[str, Any]:
    """The arguments that draw one of a call's images alone, from another seed."""
    prompts = 1 if isinstance(asked["prompt"], str) else len(asked["prompt"])
    prompt = place // (count // prompts)
    own = {
        name: value[prompt] if name.startswith(TEXTS) and isinstance(value, list | tuple) else value
        for name, value in asked.items()
        if name != "kwargs"
    }
    generator = torch.Generator().manual_seed(seed)
    own |= {"num_images_per_prompt": 1, "generator": generator, "return_dict": True}
    return {**own, **asked.get("kwargs", {})} | ({"latents": None} if "latents" in own else {})
