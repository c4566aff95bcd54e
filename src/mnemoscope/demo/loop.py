"""The training loop that all networks of the bundled models share: it stops and goes on where it was.

What the architectures differ in, their networks, losses and pipelines, is in `train.py` and `train_flow.py`.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mnemoscope.run.progress import Progress
from mnemoscope.run.writing import write_whole

SAVE_EVERY = 100
Rate = Callable[[int, int, float], float]  # learning rate by step, number of steps and peak
Draw = Callable[[int], tuple[Tensor, list[str]]]  # latents and captions of a step


@runtime_checkable
class Architecture(Protocol):
    """What the loop asks of an architecture: networks, the loss of latents at a step, and a pipeline's folder."""

    net: nn.ModuleDict

    def loss(self, x_0: Tensor, ids: Tensor, step: int) -> Tensor: ...

    def export(self, net: Any, vae: Any, tokenizer: Any, folder: Path) -> Path: ...


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a half cosine down to zero."""
    return peak * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))


def flat_then_down(step: int, steps: int, peak: float) -> float:
    """Warm-up over 200 steps, then flat, then a line to zero over the last three tenths.

    Until the last part begins the number of steps has no influence, so that it may still be changed when resuming.
    """
    return peak * min(1.0, (step + 1) / 200, (steps - step) / (0.3 * steps))


class Stage:
    """A training stage whose modules, optimiser and step survive a kill: one file, replaced atomically."""

    def __init__(self, modules: dict[str, nn.Module], file: Path, steps: int, peak: float, rate: Rate = learning_rate):
        self.modules, self.file, self.steps, self.peak, self.rate = modules, file, steps, peak, rate
        parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.step = 0
        if file.exists():
            state = torch.load(file, weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state[name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        state = {name: m.state_dict() for name, m in self.modules.items()}
        held = state | {"optimizer": self.optimizer.state_dict(), "step": self.step}
        write_whole(self.file, lambda opened: torch.save(held, opened))

    def descend(self, loss: Tensor) -> None:
        group = self.optimizer.param_groups[0]
        group["lr"] = self.rate(self.step, self.steps, self.peak)
        loss.backward()
        nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __iter__(self) -> Iterator[int]:
        with Progress() as bar:
            task = bar.add_task(self.file.stem, total=self.steps, completed=self.step)
            while self.step < self.steps:
                yield self.step
                self.step += 1
                bar.advance(task)
                if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                    self.save()


def fit(architecture: Architecture, draw: Draw, tokenizer: Any, file: Path, steps: int, peak: float, rate: Rate) -> Any:
    """Train an architecture's networks with a checkpoint in `file`, and give back the average of their weights."""
    net = architecture.net
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998)).requires_grad_(False)
    stage = Stage({"net": net, "average": average}, file, steps, peak, rate)
    ahead = StepBatches(draw, tokenizer, steps)
    loader = DataLoader(ahead, batch_size=None, sampler=range(stage.step, steps), num_workers=1, prefetch_factor=4)
    for step, (x_0, ids) in zip(stage, loader, strict=False):
        loss = architecture.loss(x_0, ids, step)
        stage.descend(loss)
        average.update_parameters(net)
        if step % 20 == 0:
            log(file.parent, stage=file.stem, step=step, loss=loss.item())
    return average.module


class StepBatches(Dataset):
    """Latents and token numbers by step, made in the loader's own process."""

    def __init__(self, draw: Draw, tokenizer: Any, steps: int) -> None:
        self.draw, self.tokenizer, self.steps = draw, tokenizer, steps

    def __len__(self) -> int:
        return self.steps

    @torch.no_grad()
    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        latents, texts = self.draw(step)
        return latents, self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def noise(x_0: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Noise as large as the latents, and a noise level in [0, 1) for each: one in each of as many equal parts."""
    size, generator = len(x_0), torch.Generator().manual_seed(step)
    eps = torch.randn(x_0.shape, generator=generator)
    strata = torch.arange(size) + torch.rand(size, generator=generator)
    return eps, (strata / size)[torch.randperm(size, generator=generator)]


def as_tensor(images: list[Image.Image]) -> Tensor:
    """Pictures of one size as [N, 3, height, width], -1 to 1."""
    pixels = np.stack([np.asarray(i, np.float32) for i in images])
    return torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2)


@torch.no_grad()
def latents(vae: Any, pixels: Tensor) -> Tensor:
    """The means that an autoencoder gives for pictures, scaled as the denoiser's latents are."""
    return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor


def log(folder: Path, **row: Any) -> None:
    """Append a row to `train.jsonl`, with when it was written, in seconds."""
    with (folder / "train.jsonl").open("a") as f:
        f.write(json.dumps({**row, "at": round(time.time(), 1)}) + "\n")
