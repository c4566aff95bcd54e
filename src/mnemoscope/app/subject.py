"""What the page looks at: a model with how it is sampled, and what its prompts and pictures are held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemoscope import demo
from mnemoscope.features import Descriptor, descriptor
from mnemoscope.features.alignment import CONCEPTS, Aligner, aligner
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, as_prompts

Told = dict[str, Any]  # what the page shows of something, by the names that its templates use
BUNDLED = ("demo", "demo-flow")
ORDINARY = 120  # bundled prompts that the threshold is set on
EXAMPLES = (("verbatim", 0), ("template", 0), ("ordinary", ORDINARY), ("unseen", 0))
SAMPLING = {"num_inference_steps": 20, "guidance_scale": 3.0}


@dataclass(frozen=True, kw_only=True)
class PageSubject:
    """A model and what the page needs beside it; what is not given is not shown.

    `negatives` are ordinary prompts, which set the threshold unless one is given: that of a detection's run, or
    NUMBER[:UNIT]. Pictures are compared with an `index`, or with `references`, of which one is built.
    """

    model: Denoiser
    sampling: Mapping[str, Any] = field(default_factory=dict)  # before the threshold's own, and that before `usual`
    usual: Mapping[str, Any] = field(default_factory=dict)
    images: int = 2
    negatives: Sequence[Prompt] = ()
    negatives_from: str = ""
    threshold: str | None = None
    fpr: float = 0.01
    index: Path | None = None
    references: str | None = None
    captions: Path | None = None
    features: Callable[[], Descriptor] | None = None  # the index's own, pixels for references, if none
    similarity: float | None = None
    aligner: Aligner | None = None
    examples: Sequence[str] = ()


def bundled(name: str) -> Told:
    """What a bundled model brings along, as ordinary prompts and training pictures; nothing for other models."""
    if name not in BUNDLED:
        return {}
    return {
        "usual": SAMPLING,
        "negatives": as_prompts(demo.prompts("ordinary")[:ORDINARY]),
        "negatives_from": "that come with the model",
        "references": str(demo.HERE / "references"),
        "features": lambda: descriptor("pixels"),
        "aligner": aligner(CONCEPTS),
        "examples": [demo.prompts(kind)[place] for kind, place in EXAMPLES],
    }
