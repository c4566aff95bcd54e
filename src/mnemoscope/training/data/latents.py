"""Latents of views: samples of the autoencoder's posterior, whose moments are computed once where crops are fixed."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.autoencoder import posterior, scaled
from mnemoscope.model.identity import weights_hash
from mnemoscope.run.writing import whole
from mnemoscope.training.data.conditioning import keyed
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.order import View
from mnemoscope.training.data.rows import image_of

SHARD = 256  # rows in a file
ENCODED = 8  # pictures at once
Moments = tuple[Float[Tensor, "C h w"], Float[Tensor, "C h w"]]


class Latents:
    """Clean latents of views of a set; without an autoencoder they are the pixels.

    With a `folder` and crops in the middle, mean and deviation of each row, and of its mirror image where views are
    flipped, are kept in safetensors files there, so that `precompute` is the last time the autoencoder is needed. Both
    ways a view's latent is a new sample of the posterior, drawn by a generator that (seed, epoch, index) decide: the
    same numbers up to rounding, in any batch and any process.
    """

    def __init__(self, data: TrainingSet, vae: Any, folder: Path | None = None) -> None:
        self.data, self.vae = data, vae
        factor = 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
        if data.resolution % factor:
            raise UsageError(f"--resolution {data.resolution} is no multiple of {factor}, as the autoencoder needs.")
        self.mirrored = (False, True) if data.framing.random_flip else (False,)
        keeps = folder is not None and vae is not None and data.framing.center_crop
        self.folder = folder / f"latents-{self._identity()}" if folder is not None and keeps else None
        self._open: dict[Path, Any] = {}

    def precompute(self) -> Iterator[int]:
        """Compute the moments that are not kept yet, file by file; yields the number of rows that are done.

        A file is written whole or not at all, so that this may be killed and gone on with. Nothing where crops differ
        from view to view.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(self.data), SHARD):
            rows = range(start, min(start + SHARD, len(self.data)))
            if not _is_whole(self._file(start)):
                self._write(self._file(start), rows)
            yield rows.stop

    def batch(self, views: Sequence[View]) -> Float[Tensor, "B C h w"]:
        """Latents of views in the units that the network is trained in, float32."""
        if self.vae is None:
            return torch.stack([self.data.pixels(*view) for view in views])
        moments = [self._kept(*view) for view in views] if self.folder else self._encoded(views)
        pairs = zip(views, moments, strict=True)
        drawn = [mean + deviation * self._noise(view, mean) for view, (mean, deviation) in pairs]
        return scaled(self.vae, torch.stack(drawn).to(self.vae.device))

    def _noise(self, view: View, like: Float[Tensor, "C h w"]) -> Float[Tensor, "C h w"]:
        index, epoch = view
        number = keyed("posterior", self.data.options.seed, epoch, index).getrandbits(63)
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(number))

    def _encoded(self, views: Sequence[View]) -> list[Moments]:
        return self._moments([self.data.pixels(*view) for view in views])

    def _moments(self, pixels: Sequence[Float[Tensor, "3 H W"]]) -> list[Moments]:
        mean, deviation = posterior(self.vae, torch.stack(list(pixels)))
        return list(zip(mean.cpu(), deviation.cpu(), strict=True))

    def _kept(self, index: int, epoch: int) -> Moments:
        place = index % SHARD, int(self.data.framing.is_flipped(epoch, index))
        file = self._file(index - place[0])
        if file not in self._open:
            if not file.is_file():
                raise UsageError(f"{file} is missing; precompute the latents first.")
            self._open[file] = safe_open(file, framework="pt")
        mean, deviation = (self._open[file].get_slice(name)[place[0]][place[1]] for name in ("mean", "deviation"))
        return mean, deviation

    def _write(self, file: Path, rows: range) -> None:
        views = [(index, flipped) for index in rows for flipped in self.mirrored]
        moments: list[Moments] = []
        for start in range(0, len(views), ENCODED):
            chunk = views[start : start + ENCODED]
            moments += self._moments([self.data.framing.pixels(image_of(self.data.rows[k]), f) for k, f in chunk])
        names = ("mean", "deviation")
        stacked = {n: torch.stack([m[k] for m in moments]) for k, n in enumerate(names)}
        held = {n: v.unflatten(0, (len(rows), len(self.mirrored))).contiguous() for n, v in stacked.items()}
        with whole(file) as partial:
            save_file(held, partial)

    def _file(self, start: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{start:08d}.safetensors"

    def _identity(self) -> str:
        """What the moments depend on: weights, pictures in order, size and mirroring."""
        digest = hashlib.sha256(weights_hash({"vae": self.vae}).encode())
        for row in self.data.rows:
            digest.update(f"{row.sha256}\n".encode())
        digest.update(f"{self.data.resolution} {len(self.mirrored)} {self.vae.dtype}".encode())
        return digest.hexdigest()[:16]


def _is_whole(file: Path) -> bool:
    try:
        with safe_open(file, framework="pt") as held:
            return {"mean", "deviation"} <= set(held.keys())
    except (OSError, SafetensorError):
        return False
