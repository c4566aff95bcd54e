"""What an experiment will cost before it is run: how much work it is, and how long a machine takes for it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.errors import UsageError
from mnemoscope.experiments.arm import ExperimentArm
from mnemoscope.experiments.experiment import Experiment
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.training.options import TrainOptions

WORDS = 77
SAMPLES = 4  # of the batch that is timed
LATENT = 8  # pixels of a side of a latent, of Stable Diffusion
BACKWARD = {"lora": 1.0}  # backward passes as multiples of a forward one; 2 where all weights have gradients
STABLE_DIFFUSION: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
BYTES = 16  # of a trained weight in float32: itself, its gradient, two moments of Adam


@dataclass(frozen=True)
class ExperimentWork:
    """How much there is to do in all: trainings, samples trained on, passes and images drawn."""

    trainings: int
    trained: int  # samples, each a forward and a backward pass
    backward: float  # of all of them, in forward passes
    forward: int  # passes of the network that draw, probe and filter
    images: int


@dataclass(frozen=True)
class Prices:
    """Seconds of a forward pass for one sample and of one decoded image; `parameters` are the network's."""

    forward: float
    image: float
    parameters: int

    def seconds(self, work: ExperimentWork) -> float:
        """How long the work takes."""
        return self.forward * (work.trained + work.backward + work.forward) + self.image * work.images


def work_of(asked: Experiment, arms: Sequence[ExperimentArm], seeds: int) -> ExperimentWork:
    """All that the arms and seeds come to; trainings that arms share count once, and that before all of them once."""
    by_name = {asked.training_of(arm): arm for arm in arms if arm.trained}
    each = [_trained(arm) for arm in by_name.values()]
    parts = [_drawn(asked, arm) for arm in arms]
    whole = [sum(column) * seeds for column in zip(*each, strict=True)] if each else [0, 0, 0, 0]
    images, drawing = (sum(column) * seeds for column in zip(*parts, strict=True))
    if asked.pretrain is not None:
        whole = [a + b for a, b in zip(whole, _trained(asked.pretrain), strict=True)]
    trainings = len(by_name) * seeds + (asked.pretrain is not None)
    return ExperimentWork(trainings, int(whole[0]), whole[1], int(whole[2]) + drawing, int(whole[3]) + images)


def measured(model: str) -> Prices:
    """What this machine takes, from a few passes of the model itself."""
    loaded = Denoiser.from_pretrained(model, device="cpu")
    x_t = torch.randn(SAMPLES, *loaded.latent_shape)
    cond, t = loaded.encode(["a picture"] * SAMPLES), torch.full((SAMPLES,), 500)
    with torch.no_grad():
        forward = _timed(lambda: loaded.predict(x_t, t, cond))
        image = _timed(lambda: loaded.decode(x_t))
    return Prices(forward / SAMPLES, image / SAMPLES, _parameters(loaded.network))


def computed(asked: Experiment) -> Prices:
    """What the hardware of the file takes, from the floating-point operations of the architecture; nothing is run.

    Raises `UsageError` for an architecture other than Stable Diffusion 1 and 2.
    """
    if asked.architecture not in STABLE_DIFFUSION:
        known = " or ".join(STABLE_DIFFUSION)
        raise UsageError(f"{asked.file}: gpu: architecture is {asked.architecture or 'missing'}; give {known}.")
    side, sizes = asked.resolution // LATENT, STABLE_DIFFUSION[asked.architecture]
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(sample_size=side, **sizes), AutoencoderKL(**AUTOENCODER)
        x_t, hidden = torch.empty(1, 4, side, side), torch.empty(1, WORDS, sizes["cross_attention_dim"])
        t = torch.zeros(1, dtype=torch.long)
        passes = [_operations(lambda: unet(x_t, t, hidden)), _operations(lambda: vae.decode(x_t))]
    rate = asked.hardware.tflops * 1e12 * asked.hardware.utilisation
    return Prices(passes[0] / rate, passes[1] / rate, _parameters(unet))


def memory(prices: Prices, arm: ExperimentArm) -> float:
    """GiB of the trained weights with their gradients and moments; activations come on top."""
    is_lora = arm.settings["train"].get("train") == "lora"
    return prices.parameters * (4 if is_lora else BYTES) / 2**30


def _trained(arm: ExperimentArm) -> tuple[int, float, int, int]:
    """Samples, backward passes in forward ones, further forward passes and images of one training."""
    asked = arm.training(0, {}, "cpu")
    samples = asked.options.steps * asked.options.batch_size * asked.options.accumulation
    further = samples if asked.objective.hard_threshold is not None else 0
    images = 0
    if asked.probe.probe_every:
        looks, groups = 1 + asked.options.steps // asked.probe.probe_every, 2 if asked.data.base else 1
        seen = looks * groups * asked.probe.probe_count * max(1, asked.probe.probe_images)
        images = seen if asked.probe.probe_images else 0
        further += seen * 2 * (asked.probe.probe_inference_steps if asked.probe.probe_images else 1)
    return samples, samples * _backward(asked.options), further, images


def _backward(options: TrainOptions) -> float:
    return BACKWARD.get(options.train, 2.0) + options.gradient_checkpointing


def _drawn(asked: Experiment, arm: ExperimentArm) -> tuple[int, int]:
    """Images of an arm with one seed, and the passes that they take; at most, where a group has fewer pictures."""
    how = arm.drawing()
    images = len(asked.measure.groups) * asked.measure.prompts * how.images
    return images, images * how.num_inference_steps * (1 if how.guidance_scale == 1 else 2)


def _timed(run: Any) -> float:
    run()
    took = []
    for _ in range(3):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return min(took)


@torch.no_grad()
def _operations(run: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
