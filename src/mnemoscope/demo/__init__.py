"""The bundled model, which really memorizes: its weights, its prompts by kind, and training images to compare with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from mnemoscope.pictures import Picture

HERE = Path(__file__).parent
MODEL = HERE / "model"
KINDS = ("verbatim", "template", "ordinary", "unseen")


def prompts(kind: str) -> list[str]:
    """Captions of one kind, in a fixed order.

    "verbatim" captions come with one image each, seen many times in training; "template" captions with a fixed layout
    around a changing object; "ordinary" ones with ever-changing images of an object; "unseen" ones were never seen.
    """
    if kind not in KINDS:
        raise UsageError(f"The bundled model has no '{kind}' prompts; there are {', '.join(KINDS)}.")
    return [row["prompt"] for row in truth() if row["kind"] == kind]


def truth() -> list[dict]:
    """Every bundled prompt with its kind, the object that it names, and the words that no other caption has."""
    return [json.loads(line) for line in (HERE / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]


def references() -> "list[Picture]":
    """Training images with their captions and kinds: all verbatim ones, some of each template, some ordinary ones."""
    from mnemoscope.pictures import read_pictures

    return list(read_pictures(HERE / "references"))


def mask(prompt: str) -> "Bool[np.ndarray, '64 64'] | None":
    """Which pixels all training images of a bundled prompt share, exact by construction.

    All of them for a picture that is trained as it is, all but the square of the changing object for a template prompt,
    none for a prompt that was not trained. None, and no mask, where its images show the same at no fixed place, as
    near-copies do. Raises `UsageError` for a prompt that is not a bundled one.
    """
    import numpy as np

    from mnemoscope.demo import scenes, shared_pixels

    place, kind = next(((k, row["kind"]) for k, row in enumerate(truth()) if row["prompt"] == prompt), (-1, None))
    if kind is None:
        raise UsageError(f"'{prompt[:60]}' is no prompt of the bundled model, so that its mask is not known.")
    if kind in ("ordinary", "unseen"):
        return np.zeros((scenes.SIZE, scenes.SIZE), bool)
    file = HERE / "masks" / f"{place}.png"
    return shared_pixels.read_mask(file) if file.exists() else None
