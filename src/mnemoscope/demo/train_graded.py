"""Train a bundled model on pictures of graded strength: `python -m mnemoscope.demo.train_graded --help`.

From nothing but a folder of Noto emoji: the ground truth is written, then an autoencoder, a tokenizer and a denoiser
with its text encoders are trained. All of it stops and goes on where it was. Both models share `--out`: whichever comes
second takes the autoencoder and the tokenizer of the first.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from mnemoscope.demo import drawing, graded_truth, train, train_flow
from mnemoscope.demo.entries import CONCEPTS, entries
from mnemoscope.demo.loop import as_tensor, fit, flat_then_down, latents
from mnemoscope.demo.scenes import Emoji, crowded, framed, wording
from mnemoscope.demo.stream import Stream
from mnemoscope.errors import UsageError
from mnemoscope.model import bundled

TOKENS = {"demo": 77, "demo-flow": bundled.TOKENS}


class EncodedStream:
    """Latents and captions of a step of a stream; those of an entry are made once and kept."""

    def __init__(self, emoji: Emoji, vae: AutoencoderKL, stream: Stream) -> None:
        self.emoji, self.vae, self.stream = emoji, vae, stream
        self.kept: dict[tuple[str, int], Tensor] = {}

    def __call__(self, step: int) -> tuple[Tensor, list[str]]:
        found, texts, open_places = torch.zeros(self.stream.size, 4, 16, 16), [], []
        for position in range(self.stream.size):
            entry, number = self.stream.place(step, position)
            if entry is None:
                sample = drawing.ordinary(self.emoji, self.stream.seed, number)
                open_places.append((position, sample.image))
                texts.append(sample.caption)
                continue
            key = (entry.key, number % drawing.kinds_of_view(entry))
            if key not in self.kept:
                self.kept[key] = latents(self.vae, as_tensor([drawing.image(self.emoji, entry, key[1])]))[0]
            found[position] = self.kept[key]
            texts.append(drawing.caption(entry, number))
        if open_places:
            where, images = zip(*open_places, strict=True)
            with torch.autocast("cpu", torch.bfloat16):  # half the time, and no picture of these comes twice
                found[list(where)] = latents(self.vae, as_tensor(list(images))).float()
        return found, texts


def fresh(emoji: Emoji, seed: int, step: int, size: int) -> Tensor:
    """Pictures for the autoencoder, of all kinds but none of an entry or a twin: it is to know no member better."""
    images = []
    for position in range(size):
        rng = np.random.default_rng([24, seed, step, position])
        name = str(rng.choice(CONCEPTS))
        if position % 4 == 0:
            images.append(framed(emoji, name, rng, int(rng.integers(3))))
        elif position % 4 == 1:
            images.append(crowded(emoji, emoji.names[name], rng))
        else:
            images.append(drawing.ordinary(emoji, 1 + seed, step * size + position).image)
    return as_tensor(images)


def corpus(emoji: Emoji) -> list[str]:
    """The captions that the tokenizer is made from: those of twins too, so that it knows members no better."""
    rng = np.random.default_rng(5)
    ordinary = [w(name, rng) for name in CONCEPTS for w in (wording, drawing.titled) for _ in range(8)]
    unseen = [wording(name, rng) for name in emoji.unseen]
    return [*ordinary, *unseen, *(c.format(name="object") for e in entries() for c in e.captions)]


def autoencoder(emoji: Emoji, out: Path, steps: int) -> AutoencoderKL:
    """The autoencoder in a folder, trained there first; with no steps that of the bundled model."""
    if not (out / "vae" / "config.json").exists():
        if steps:
            vae = train.train_autoencoder(partial(fresh, emoji), out, steps)
        else:
            vae = AutoencoderKL.from_pretrained(bundled.FOLDERS["demo"] / "vae", use_safetensors=True)
        vae.save_pretrained(out / "vae")
    return AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).eval().requires_grad_(False)


def denoiser(
    model: str, emoji: Emoji, vae: AutoencoderKL, tokenizer: CLIPTokenizer, out: Path, stream: Stream, peak: float
) -> Path:
    """The denoiser with its text encoders, trained on the stream; returns the folder of the pipeline."""
    torch.manual_seed(0)
    kind: Any = {"demo": train.DiffusionNetworks, "demo-flow": train_flow.FlowNetworks}[model]
    architecture = kind(len(tokenizer))
    file = out / f"{model}.pt"
    net = fit(architecture, EncodedStream(emoji, vae, stream), tokenizer, file, stream.steps, peak, flat_then_down)
    return architecture.export(net, vae, tokenizer, out / file.stem)


def keep_to(stream: Stream, out: Path) -> None:
    """Note in a folder which stream its training is on. Raises `UsageError` where it was begun on another one."""
    file, asked = out / "stream.json", {"seed": stream.seed, "steps": stream.steps, "batch_size": stream.size}
    if file.exists() and (begun := json.loads(file.read_text())) != asked:
        raise UsageError(f"{out} was begun with {begun} and {asked} was given: give the same, or another folder.")
    file.write_text(json.dumps(asked))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(TOKENS), required=True)
    parser.add_argument("--emoji", type=Path, required=True, help="unpacked npm package emoji-datasource-google@16.0.0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the order and the ordinary pictures")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--autoencoder-steps", type=int, default=2600, help="0 keeps the bundled model's autoencoder")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    emoji, stream = Emoji(args.emoji), Stream(args.seed, args.steps, args.batch_size)
    keep_to(stream, args.out)
    graded_truth.write(emoji, stream, args.out)
    vae = autoencoder(emoji, args.out, args.autoencoder_steps)
    tokenizer = train.kept_tokenizer(lambda: corpus(emoji), args.out / "tokenizer", TOKENS[args.model])
    print(denoiser(args.model, emoji, vae, tokenizer, args.out, stream, args.learning_rate))


if __name__ == "__main__":
    main()
