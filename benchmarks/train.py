"""A training step against the plain loop of the published trainers, on one thread, alternating, medians.

    python benchmarks/train.py [--steps 6] [--rounds 5] [--batch-size 8] [--train unet] [--large]

The plain loop opens, resizes and encodes the pictures and encodes the captions at every step, and uses AdamW without
any fused form. Ours keeps the moments of the latents and the embeddings of the captions. Both see the same views, noise
and timesteps, so that the weights are the same up to rounding, which is printed. Seconds are CPU seconds a step; what
ours computes once is printed apart. `--large` takes a U-Net of 35 million parameters and an autoencoder of its size.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from detect import large
from mnemoscope import demo
from mnemoscope.model.autoencoder import scaled
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import quiet
from mnemoscope.model.schedule import prediction_type
from mnemoscope.training.averages import Averages
from mnemoscope.training.data.batches import Batches, training_set
from mnemoscope.training.data.conditioning import keyed
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.networks import Networks
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions
from mnemoscope.training.processes import accelerated
from mnemoscope.training.state import Training


class Plain:
    """The step of the published trainers, with the draws of ours."""

    def __init__(self, pipe: Any, batches: Batches, options: TrainOptions) -> None:
        self.pipe, self.batches, self.options = pipe, batches, options
        trained = [pipe.unet, *([pipe.text_encoder] if options.train == "unet+text" else [])]
        for module in (pipe.unet, pipe.vae, pipe.text_encoder):
            module.requires_grad_(module in trained)
        self.parameters = [p for module in trained for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, eps=options.adam_epsilon, foreach=False
        )
        self.average = Averages(self.parameters, options.ema)

    def step(self, step: int) -> None:
        pipe, data = self.pipe, self.batches.data
        views = self.batches.order.batch(step)
        pixels = torch.stack([data.pixels(*view) for view in views])
        with torch.no_grad():
            moments = pipe.vae.encode(pixels).latent_dist
        drawn = [self._posterior(view, moments.mean[0]) for view in views]
        latents = scaled(pipe.vae, moments.mean + moments.std * torch.stack(drawn))
        ids = pipe.tokenizer(
            [data.texts(*view)[1] for view in views], padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        hidden = pipe.text_encoder(ids)[0]
        draws = self.batches.draws(step, 0)
        noise, t = draws.normal("noise", latents.shape[1:]), draws.integers("timestep", 0, 1000)
        target = noise
        if prediction_type(pipe.scheduler) == "v_prediction":
            target = pipe.scheduler.get_velocity(latents, noise, t)
        loss = F.mse_loss(pipe.unet(pipe.scheduler.add_noise(latents, noise, t), t, hidden).sample, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()

    def _posterior(self, view: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        number = keyed("posterior", self.batches.data.options.seed, view[1], view[0]).getrandbits(63)
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(number))


def seconds(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--train", default="unet")
    parser.add_argument("--mixed-precision", default="no")
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    model = Denoiser.from_pretrained("demo", device="cpu")
    pipe = (large(model) if args.large else model).pipe
    options = TrainOptions(
        train=args.train,
        batch_size=args.batch_size,
        ema=(0.9999,),
        mixed_precision=args.mixed_precision,
        adam_epsilon=1e-4,
        device="cpu",
    )
    data = training_set(pipe, DataOptions(str(Path(demo.__file__).parent / "references")))
    with tempfile.TemporaryDirectory() as folder, accelerated(options, Path(folder)) as accelerator:
        other = copy.deepcopy(pipe)
        plain = Plain(other, Batches(data, other.vae, options, folder=Path(folder) / "none"), options)
        ours = Training(Networks(pipe, options, ObjectiveOptions()), accelerator, options)
        batches = Batches(data, pipe.vae, options, folder=Path(folder))
        once = seconds(lambda: list(batches.prepare()))
        texts = seconds(lambda: [ours.nets.conditions(data.possible(k)) for k in range(len(data))])
        taken: dict[str, list[float]] = {"plain": [], "ours": []}
        for number in range(args.rounds + 1):  # the first round warms up
            steps = range(number * args.steps, (number + 1) * args.steps)
            a = seconds(lambda steps=steps: [plain.step(s) for s in steps])
            b = seconds(lambda steps=steps: [ours.update(batches.of(s)) for s in steps])
            if number:
                taken["plain"].append(a / args.steps)
                taken["ours"].append(b / args.steps)
        medians = {name: statistics.median(values) for name, values in taken.items()}
        count = sum(p.numel() for p in pipe.unet.parameters())
        print(f"U-Net of {count / 1e6:.1f} M parameters, {args.train}, batch {args.batch_size}, {args.mixed_precision}")
        for name, values in taken.items():
            print(f"{name:6} {medians[name]:.4f} CPU-s a step (min {min(values):.4f}, max {max(values):.4f})")
        ratios = [p / o for p, o in zip(taken["plain"], taken["ours"], strict=True)]
        print(f"ratio {statistics.median(ratios):.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f})")
        print(f"computed once: latents of {len(data)} pictures {once:.2f} CPU-s, captions {texts:.2f} CPU-s")
        print(f"largest difference of a weight after {(args.rounds + 1) * args.steps} steps: ", end="")
        print(f"{difference(plain.pipe.unet, ours.nets.unet):.1e}")


if __name__ == "__main__":
    main()
