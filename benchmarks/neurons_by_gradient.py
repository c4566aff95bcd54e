"""Which neurons carry a memorized image of the bundled model: by gradient, by unusual activation, or any.

    python benchmarks/neurons_by_gradient.py [--prompts 10] [--steps 10] [--seed 1000] [--located]

The first table blocks each prompt's own top 2, 5, 10 and 20 % of the value neurons of the seven down and mid layers, or
of all sixteen, under each ranking: the pixel cosine of one image a prompt with the prompt's training image, and the
share of images that replicate it (cosine of 0.8 or more). The rankings: `closeness` and `noise_norm` are attributions
along the path to blocked (4 points, 2 seeds, the seeds of no image), `at the intact network` the gradient at its
beginning, `outlier` the z-score of a neuron's activation against 240 ordinary prompts, `random` a draw. `--located`
prints a second table, of the sets that `neurons_by_gradient` finds: their sizes, what blocking them leaves, random sets
of the same sizes, images of ordinary prompts under a memorized prompt's set, and the evaluations that it took.
Intervals are of 95 % over prompts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mnemoscope as mn
import timing
from mnemoscope import demo, features, stats
from mnemoscope.localization import statistics
from mnemoscope.localization.attribution import NeuronProbe
from mnemoscope.localization.states import Look
from mnemoscope.localizers import neurons_by_gradient
from mnemoscope.model import ablation
from mnemoscope.model.loading import quiet

REPLICATES, SHARES, GUIDANCE = 0.8, (0.02, 0.05, 0.1, 0.2), 3.0


class Images:
    """One image a prompt under gains of its own, compared with its training image, or with what it was."""

    def __init__(self, model: mn.Denoiser, prompts: Sequence[str], seed: int, steps: int) -> None:
        self.model, self.prompts = model, list(prompts)
        self.seeds, self.steps = [seed] * len(prompts), steps

    def vectors(self, gain: Tensor | None) -> np.ndarray:
        with self.model.edit("start", lambda start: gain is None or ablation.steer_start(start, gain)):
            images = self.model.generate(
                self.prompts, self.seeds, num_inference_steps=self.steps, guidance_scale=GUIDANCE
            )
        return features.pixels(images)

    def told(self, gain: Tensor | None, own: np.ndarray) -> str:
        cosine = (self.vectors(gain) * own).sum(1)
        copied = int((cosine >= REPLICATES).sum())
        rate, mean = stats.wilson_interval(copied, len(cosine)), stats.mean_interval(cosine)
        return (
            f"{cosine.mean():.2f} [{mean[0]:.2f}, {mean[1]:.2f}], "
            f"{copied / len(cosine):.0%} [{rate[0]:.0%}, {rate[1]:.0%}]"
        )


def rankings(
    model: mn.Denoiser, prompts: Sequence[str], layers: str, references: dict[str, Any], ordinary: int
) -> dict[str, Tensor]:
    """Values of all neurons for each prompt, the higher the earlier it is blocked."""
    closeness, noise_norm = Look(references=references), Look()
    found = {}
    for name, look, options, points in (
        ("closeness", closeness, {}, 4),
        ("closeness, at the intact network", closeness, {"factor": 0.999}, 1),
        ("noise_norm", noise_norm, {}, 4),
        ("noise_norm, at the intact network", noise_norm, {"factor": 0.999}, 1),
    ):
        value, (states,) = look.at(model, prompts, range(2))
        probe = NeuronProbe(model, prompts, states, value, layers=layers, **options)  # type: ignore[arg-type]
        found[name] = probe.drops(points).masked_fill(~probe.searched, -torch.inf)
    usual = statistics.measure(model, demo.prompts("ordinary")[:ordinary], "all")
    own = statistics.activations(model, prompts, "all")
    z = torch.cat([(own[n].double() - usual.mean[n]).abs() / usual.sd[n] for n in own], 1)
    found["outlier"] = z.masked_fill(~probe.searched, -torch.inf)
    draw = torch.rand(found["noise_norm"].shape, generator=torch.Generator().manual_seed(0))
    found["random"] = draw.masked_fill(~probe.searched, -torch.inf)
    return found


def gain_of(places: Tensor, width: int) -> Tensor:
    return torch.zeros(len(places), width).scatter_(1, places, -1.0)


def ranked(model: mn.Denoiser, images: Images, own: np.ndarray, references: dict[str, Any], ordinary: int) -> None:
    print("| layers | ranking | " + " | ".join(f"top {share:.0%}" for share in SHARES) + " |\n|" + "---|" * 6)
    print("| | nothing blocked | " + " | ".join([images.told(None, own)] + [""] * 3) + " |", flush=True)
    for layers in ("seven", "all"):
        size = sum(ablation.widths(model, layers).values())  # type: ignore[arg-type]
        for name, values in rankings(model, images.prompts, layers, references, ordinary).items():
            tops = [values.topk(int(share * size), 1).indices for share in SHARES]
            cells = [images.told(gain_of(top, values.shape[1]), own) for top in tops]
            print(f"| {layers} | {name} | " + " | ".join(cells) + " |", flush=True)


def located(model: mn.Denoiser, images: Images, own: np.ndarray, references: dict[str, Any]) -> None:
    ordinary = Images(model, demo.prompts("ordinary")[: len(own)], images.seeds[0], images.steps)
    plain, width = ordinary.vectors(None), sum(ablation.widths(model, "all").values())
    print(
        "| layers | score | remaining | neurons | own image | random sets | ordinary images | evaluations | reached |"
    )
    print("|" + "---|" * 9)
    for layers, used, remaining in (
        ("all", references, 0.5),
        ("all", references, 0.1),
        ("seven", references, 0.1),
        ("all", None, 0.5),
        ("all", None, 0.1),
    ):
        found = neurons_by_gradient(model, images.prompts, references=used, layers=layers, remaining=remaining)
        gain = ablation.gain(model, [each.neurons for each in found])
        searched = sum(ablation.widths(model, layers).values())  # type: ignore[arg-type]
        draw = torch.Generator().manual_seed(0)
        other = torch.zeros(len(found), width)
        for row, each in zip(other, found, strict=True):
            row[torch.randperm(searched, generator=draw)[: each.count]] = -1.0
        sizes = np.array([each.count for each in found])
        cost = np.mean([each.evaluations for each in found])
        reached = sum(each.details["reached"] and each.details["again_reached"] for each in found)
        print(
            f"| {layers} | {found[0].value} | {remaining} "
            f"| {np.median(sizes):.0f} ({sizes.min()} to {sizes.max()}) | {images.told(gain, own)} "
            f"| {images.told(other, own)} | {ordinary.told(gain, plain)} | {cost:.0f} | {reached} of {len(found)} |",
            flush=True,
        )


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--ordinary", type=int, default=240, help="prompts that tell what activations are usual")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--located", action="store_true")
    args = timing.parsed(parser, prompts=1, steps=1, ordinary=4)
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    references = {r.caption: r.image() for r in demo.references() if r.kind == "verbatim"}
    images = Images(model, demo.prompts("verbatim")[: args.prompts], args.seed, args.steps)
    own = features.pixels([references[prompt] for prompt in images.prompts])
    if args.located:
        located(model, images, own, references)
    else:
        ranked(model, images, own, references, args.ordinary)


if __name__ == "__main__":
    main()
