"""A training step against the plain loop of the published trainers, on one thread, alternating, medians.

    python benchmarks/train.py [--steps 6] [--rounds 5] [--batch-size 8] [--train unet] [--large]

The plain loop opens, resizes and encodes the pictures and encodes the captions at every step, and uses AdamW without
any fused form. Ours keeps the moments of the latents and the embeddings of the captions. Both see the same views, noise
and timesteps, so that the weights are the same up to rounding, which is printed; what ours computes once is printed
apart. `--large` takes a U-Net of 35 million parameters and an autoencoder of its size.
"""

import copy
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import timing
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


def difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--train", default="unet")
    parser.add_argument("--mixed-precision", default="no")
    parser.add_argument("--large", action="store_true")
    args = timing.parsed(parser, steps=1, batch_size=1)
    results = timing.Results(args.rows)
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
        began = time.process_time()
        list(batches.prepare())
        once = time.process_time() - began
        for k in range(len(data)):
            ours.nets.conditions(data.possible(k))
        texts = time.process_time() - began - once
        numbers = {"plain": itertools.count(), "ours": itertools.count()}
        ways = {
            "plain": lambda: [plain.step(s) for s in itertools.islice(numbers["plain"], args.steps)],
            "ours": lambda: [ours.update(batches.of(s)) for s in itertools.islice(numbers["ours"], args.steps)],
        }
        taken = timing.in_turn(ways, args.rounds)
        count = sum(p.numel() for p in pipe.unet.parameters()) / 1e6
        about = f"{args.train} of {count:.1f} M, batch {args.batch_size}, {args.mixed_precision}"
        results.times(f"training step, {about}", "a step", taken, each=args.steps)
        results.say(f"Computed once: latents of {len(data)} pictures {once:.2f} CPU s, captions {texts:.2f} CPU s.")
        far = difference(plain.pipe.unet, ours.nets.unet)
        results.say(f"Largest difference of a weight after {(args.rounds + 1) * args.steps} steps: {far:.1e}.")


if __name__ == "__main__":
    main()
