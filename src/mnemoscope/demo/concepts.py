"""Which of the bundled model's concepts an image shows: a small network, and a unit vector for each concept.

Concepts are the objects that trained prompts name: the 64 of the ordinary prompts, and two that only verbatim captions
have. `train_concepts.py` made the weights.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope import demo
from mnemoscope.demo.scenes import SIZE
from mnemoscope.errors import UsageError

FILE = Path(__file__).parent / "concepts.safetensors"
CHANNELS, WIDTH = (32, 48, 64, 96), 64
BATCH = 64  # images at a time


def readable(concept: str) -> str:
    """The name of a concept in words: verbatim captions have the emoji's short name, as `lion_face`."""
    return concept.replace("_", " ").rstrip("0123456789").strip()


@cache
def of_prompts() -> dict[str, str]:
    """The concept of each bundled prompt that the model was trained on; unseen prompts have none."""
    return {row["prompt"]: readable(row["concept"]) for row in demo.truth() if row["kind"] != "unseen"}


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a 1 x 1 one; the first halves height and width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(before, after, 1, 2, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])

    def forward(self, x: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C H W"]:
        inside = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inside)) + self.short(x))


class Net(nn.Module):
    """Pixels in [-1, 1] to the cosine between the image's unit vector and that of each concept."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        first = nn.Conv2d(3, CHANNELS[0], 3, 2, 1, bias=False)
        rest = [Residual(a, b) for a, b in zip(CHANNELS, CHANNELS[1:], strict=False)]
        self.body = nn.Sequential(first, nn.BatchNorm2d(CHANNELS[0]), nn.ReLU(), *rest)
        self.head = nn.Linear(CHANNELS[-1], WIDTH)
        self.prototypes = nn.Parameter(torch.randn(concepts, WIDTH))

    def forward(self, pixels: Float[Tensor, "N 3 64 64"]) -> Float[Tensor, "N K"]:
        strongest = self.body(pixels).amax((2, 3))  # wherever the object lies, and whatever lies beside it
        return F.normalize(self.head(strongest).float(), dim=1) @ F.normalize(self.prototypes, dim=1).T


def as_pixels(images: Sequence[Image.Image]) -> Float[Tensor, "N 3 64 64"]:
    """Images in [-1, 1], resized to the bundled model's 64 x 64 pixels where they have another size."""
    small = [i.convert("RGB") for i in images]
    small = [i if i.size == (SIZE, SIZE) else i.resize((SIZE, SIZE), Image.Resampling.BOX) for i in small]
    stacked = np.stack([np.asarray(i, np.float32) for i in small])
    return torch.from_numpy(stacked / 127.5 - 1).permute(0, 3, 1, 2)


class Concepts:
    """The trained network with the names of its concepts, in the order of its prototypes."""

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        self.net, self.names = net.eval().requires_grad_(False), tuple(names)
        self.index = {name: k for k, name in enumerate(self.names)}

    @torch.no_grad()
    def cosines(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N K"]:
        """Cosine between each image's vector and each concept's."""
        parts = [self.net(as_pixels(images[k : k + BATCH])) for k in range(0, len(images), BATCH)]
        return torch.cat(parts or [torch.zeros(0, len(self.names))]).numpy()

    def rank(self, images: Sequence[Image.Image], concepts: Sequence[str]) -> Int[np.ndarray, " N"]:
        """How many concepts are nearer to each image than the one named: 0 where the image shows it."""
        cosines = self.cosines(images)
        right = cosines[np.arange(len(cosines)), self._indices(images, concepts)]
        return (cosines > right[:, None]).sum(1)

    def similarity(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Cosine between each image and the concept of its prompt; NaN where the prompt has none."""
        concepts = [of_prompts().get(p) for p in prompts]
        asked = self._indices(images, [c or self.names[0] for c in concepts])
        similarities = self.cosines(images)[np.arange(len(asked)), asked]
        return np.where([c is not None for c in concepts], similarities, np.nan)

    def _indices(self, images: Sequence[Image.Image], concepts: Sequence[str]) -> Int[np.ndarray, " N"]:
        if len(images) != len(concepts):
            raise UsageError(f"{len(images)} images and {len(concepts)} concepts were given; give one for each image.")
        for name in concepts:
            if name not in self.index:
                raise UsageError(f"'{name}' is not a concept of the bundled model; take one of Concepts.names.")
        return np.array([self.index[c] for c in concepts], dtype=int)


def load(file: Path = FILE) -> Concepts:
    """The network from a safetensors file, in float32, by default the one that comes with mnemoscope."""
    with safe_open(file, framework="pt") as f:
        names = json.loads(f.metadata()["concepts"])
        state = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dictionary)
    net = Net(len(names))
    net.load_state_dict(state)
    return Concepts(net, names)
