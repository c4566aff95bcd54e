"""Train the network that tells which concept an image shows: `python -m mnemoscope.demo.train_concepts --help`.

Its images are drawn as those of the bundled model are, but every one anew: it sees no verbatim and no template image,
so that these test it. It stops and goes on where it was; the batch of a step depends on the step alone. At the end it
prints how often it is right on images it has not seen.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mnemoscope import demo
from mnemoscope.demo import captions
from mnemoscope.demo.concepts import Concepts, Net, as_pixels, load, of_prompts, readable
from mnemoscope.demo.loop import Stage
from mnemoscope.demo.scenes import SIZE, Emoji, background, colour, place, scene, template
from mnemoscope.model.denoiser import Denoiser

TRAINING, FRESH = 10, 11  # seeds
SHARPNESS = 16.0  # factor of the cosines before the softmax
LATENT_NOISE = 0.3  # most of it, in standard deviations of a latent: what is drawn is never encoded exactly

Sets = dict[str, tuple[list[Image.Image], list[str]]]  # images with their concepts, by what they are


def concepts(emoji: Emoji) -> list[str]:
    """The ordinary concepts and those that only verbatim captions name, whose pictures then have names too."""
    emoji.names |= {readable(short): short for short in captions.VERBATIM}
    return sorted({*emoji.ordinary, *map(readable, captions.VERBATIM)})


def crowd(emoji: Emoji, name: str, rng: np.random.Generator) -> Image.Image:
    """A concept among others, on any ground and often framed: like verbatim and template images, but a new one."""
    canvas = background(rng)
    if rng.random() < 0.4:
        draw = ImageDraw.Draw(canvas)
        shape = (draw.rounded_rectangle, draw.ellipse, draw.rectangle)[rng.integers(3)]
        x, y = (int(v) for v in rng.integers(0, 22, size=2))
        shape((x, y, x + 42, y + 42), fill=colour(rng), outline=colour(rng), width=3)
    for companion in rng.choice(emoji.tail, rng.integers(0, 3), replace=False):
        place(canvas, emoji.picture(emoji.names[companion]), rng, 16, 30)
    place(canvas, emoji.picture(emoji.names[name]), rng, 24, 50)
    return canvas


def worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image a little coarser, brighter or darker, and with a JPEG's noise, each in half of the cases."""
    if rng.random() < 0.5:
        size = (int(rng.integers(36, SIZE)),) * 2
        image = image.resize(size, Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        levels = np.asarray(image, np.float32) * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20)
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        image.save(file := io.BytesIO(), "JPEG", quality=int(rng.integers(40, 95)))
        image = Image.open(file).convert("RGB")
    return image


@torch.no_grad()
def through(vae: AutoencoderKL, pixels: Float[Tensor, "N 3 64 64"], noise: int | float) -> Float[Tensor, "N 3 64 64"]:
    """Pixels encoded and decoded, as blurred as generated images are, with noise on the latents."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(pixels).latent_dist.mean
        latents = latents + noise / vae.config.scaling_factor * torch.randn(latents.shape)
        return vae.decode(latents).sample.float().clamp(-1, 1)


def batch(
    emoji: Emoji, vae: AutoencoderKL, names: list[str], step: int, size: int
) -> tuple[Float[Tensor, "N 3 64 64"], Int[Tensor, " N"]]:
    """Images of a step with their concepts' numbers: half of them crowds, and half of them through the autoencoder."""
    rng = np.random.default_rng([TRAINING, step])
    torch.manual_seed(step)
    labels = rng.integers(len(names), size=size)
    draws = [crowd if rng.random() < 0.5 else scene for _ in labels]
    images = [worn(draw(emoji, names[k], rng), rng) for draw, k in zip(draws, labels, strict=True)]
    pixels = as_pixels(images)
    half = size // 2
    blurred = through(vae, pixels[:half], rng.uniform(0, LATENT_NOISE))
    return torch.cat([blurred, pixels[half:]]), torch.from_numpy(labels)


def train(emoji: Emoji, vae: AutoencoderKL, file: Path, steps: int, size: int) -> None:
    """Train with a checkpoint beside `file`, and write the weights there in half precision."""
    names = concepts(emoji)
    torch.manual_seed(0)
    net = Net(len(names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = Stage({"net": net}, file.with_suffix(".pt"), steps, 2e-3)
    net.train()
    for step in stage:
        pixels, labels = batch(emoji, vae, names, step, size)
        with torch.autocast("cpu", torch.bfloat16):
            cosines = net(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(SHARPNESS * cosines.float(), labels)
        stage.descend(loss)
        if step % 100 == 0:
            right = (cosines.argmax(1) == labels).float().mean().item()
            print(f"step {step}: loss {loss.item():.3f}, {right:.2f} of the batch right", flush=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, file, {"concepts": json.dumps(names)})


def decoded(vae: AutoencoderKL, images: list[Image.Image]) -> list[Image.Image]:
    """The images as the autoencoder gives them back."""
    parts = [through(vae, as_pixels(images[k : k + 64]), 0) for k in range(0, len(images), 64)]
    levels = ((torch.cat(parts) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(i) for i in levels]


def held_out(emoji: Emoji, vae: AutoencoderKL, each: int) -> Sets:
    """Images that were not trained on, with their concepts, by what they are; `each` of every ordinary concept."""
    fresh = [n for n in emoji.ordinary for _ in range(each)]
    scenes = [scene(emoji, n, np.random.default_rng([FRESH, k])) for k, n in enumerate(fresh)]
    verbatim = [(r.image(), of_prompts()[r.caption]) for r in demo.references() if r.kind == "verbatim" and r.caption]
    slots = [(template(emoji, k, n).image, n) for k in range(len(captions.TEMPLATES)) for n in concepts(emoji)]
    return {
        "fresh ordinary scenes": (scenes, fresh),
        "the same through the autoencoder": (decoded(vae, scenes), fresh),
        "verbatim training images": ([i for i, _ in verbatim], [n for _, n in verbatim]),
        "template images": ([i for i, _ in slots], [n for _, n in slots]),
    }


def generated(model: Denoiser, kind: str) -> tuple[list[Image.Image], list[str]]:
    """One image of the bundled model for each prompt of a kind, with the prompts' concepts."""
    prompts, images = demo.prompts(kind), []
    for k in range(0, len(prompts), 30):
        part = prompts[k : k + 30]
        seeds = range(1000 + k, 1000 + k + len(part))
        images += model.generate(part, list(seeds), num_inference_steps=20, guidance_scale=3.0)
    return images, [of_prompts()[p] for p in prompts]


def report(model: Concepts, sets: Sets) -> None:
    """Print the share of images whose concept is the nearest, or among the five nearest; then for shuffled concepts."""
    for what, (images, asked_of) in sets.items():
        shuffled = [asked_of[k] for k in np.random.default_rng(FRESH).permutation(len(asked_of))]
        ranks = [model.rank(images, asked) for asked in (asked_of, shuffled)]
        right, control = (f"top-1 {(r < 1).mean():.3f}, top-5 {(r < 5).mean():.3f}" for r in ranks)
        print(f"{what} ({len(images)}): {right}; shuffled {control}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emoji", type=Path, required=True, help="unpacked npm package emoji-datasource-google@16.0.0")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file; the checkpoint lies beside it")
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    emoji, model = Emoji(args.emoji), Denoiser.from_pretrained("demo", device="cpu")
    train(emoji, model.pipe.vae, args.out, args.steps, args.batch_size)
    classifier = load(args.out)
    report(classifier, held_out(emoji, model.pipe.vae, each=8))
    for kind in ("ordinary", "verbatim", "template"):
        report(classifier, {f"generated for {kind} prompts": generated(model, kind)})


if __name__ == "__main__":
    main()
