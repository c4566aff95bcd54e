"""Is it gone? Edits of the bundled model, and what an adversarial embedding brings back from each.

    python benchmarks/recover.py [--model demo-flow] [--prompts 10] [--controls 10] [--out recover-runs] [--overlap]

For each edit: the share of memorized images that come out before it, after it and under attack (the best of two seeds
has a pixel cosine above 0.8 with the training image), the same for controls, ordinary training images that were seen
once, and the mean similarities. Edits: none, `neuron_ablation` of each prompt's own neurons (`neurons_by_gradient`,
closeness, all layers), of the union of all prompts' neurons, and `weight_pruning`. Runs are resumed. `--overlap` finds
three triggers of each image (from its prompt, from another text, from noise), locates the neurons of each, and prints
how much these sets share, beside sets of the same size drawn at random. Intervals are Wilson's, of 95 % over prompts.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mnemoscope as mn
import timing
from mnemoscope import demo
from mnemoscope.features import descriptor
from mnemoscope.localization.attribution import NeuronProbe, smallest
from mnemoscope.localization.states import Look
from mnemoscope.localizers import neurons_by_gradient
from mnemoscope.model.ablation import ablated, union
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.recovery.adversarial import adversarial_embedding, overlap
from mnemoscope.recovery.editing import edited_by
from mnemoscope.recovery.run import STAGES, Recovery, Target, run_recovery

RECOVERY = Recovery(images=2, num_inference_steps=20, guidance_scale=3.0, threshold=0.8)
SAMPLING: dict[str, Any] = {"guidance_scale": 3.0, "num_inference_steps": 20}
BEGINS = ("prompt", "a photo of a dog", "random")


def targets(prompts: Sequence[str], controls: int) -> list[Target]:
    images = {r.caption: r for r in demo.references()}
    ordinary = [r for r in demo.references() if r.kind == "ordinary"][:controls]
    found = [Target(p, images[p.text].image()) for p in as_prompts(prompts)]
    captions = as_prompts(f"{r.caption}" for r in ordinary)
    return found + [Target(p, r.image(), True) for p, r in zip(captions, ordinary, strict=True)]


def table(
    model: mn.Denoiser, prompts: Sequence[str], controls: int, out: Path, how: Recovery, count: int | None
) -> None:
    located = neurons_by_gradient(model, prompts, references=images_of(prompts), **SAMPLING)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "neurons.json"
    file.write_text(json.dumps([one.row() for one in located]))
    edits = {
        "none": nullcontext,
        "own neurons": edited_by(model, ["neuron_ablation"], {"neurons": str(file)}, [], []),
        "union of neurons": partial(ablated, model, union(one.neurons for one in located)),
        "weight_pruning, 1 %": pruning(model, prompts, 0.01),
        "weight_pruning, 5 %": pruning(model, prompts, 0.05),
    }
    head = [*STAGES, *(f"{stage}, controls" for stage in STAGES)]
    print("| edit | " + " | ".join(head) + " |\n|" + "---|" * (len(head) + 1))
    for name, edit in islice(edits.items(), count):
        folder = out / name.replace(" ", "-").replace(",", "").replace("%", "percent")
        asked = {"edit": name}
        found = run_recovery(
            model, targets(prompts, controls), folder, how, descriptor("pixels"), edit=edit, told=asked
        )
        cells = [said(found, key) for key in (*STAGES, *(f"control_{stage}" for stage in STAGES))]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def pruning(model: mn.Denoiser, prompts: Sequence[str], share: float) -> Any:
    given = {"share": share, **{k: v for k, v in SAMPLING.items() if k == "num_inference_steps"}}
    return edited_by(model, ["weight_pruning"], given, prompts, demo.prompts("ordinary")[: len(prompts)])


def images_of(prompts: Sequence[str]) -> dict[str, Any]:
    return {r.caption: r.image() for r in demo.references() if r.caption in prompts}


def said(found: dict[str, Any], key: str) -> str:
    low, high = found[f"memorization_rate_{key}_interval"]
    rate, similarity = found[f"memorization_rate_{key}"], found[f"similarity_{key}"]
    return f"{rate:.0%} [{low:.0%}, {high:.0%}], {similarity:.2f}"


def overlaps(model: mn.Denoiser, prompts: Sequence[str]) -> None:
    """How much the neurons of three triggers of one image share, in all and layer by layer at its best."""
    images = images_of(prompts)
    x0 = encode_images(model.pipe, [images[p] for p in prompts], model.latent_shape)
    key = model.family.texts[0]
    noise = torch.randn(model.encode([""])[key].shape, generator=torch.Generator().manual_seed(0))
    sets: list[list[list[int]]] = [[] for _ in prompts]
    sizes = []
    for begin in BEGINS:
        texts = prompts if begin in ("prompt", "random") else [begin] * len(prompts)
        cond = dict(model.encode(texts))
        cond[key] = noise.expand_as(cond[key]).to(cond[key]) if begin == "random" else cond[key]
        trigger, _ = adversarial_embedding(model, x0, cond)
        value, states = Look(references=images).at(model, prompts, range(2), range(2, 4))
        probe = NeuronProbe(model, prompts, states[0], value, guidance_scale=SAMPLING["guidance_scale"])
        probe.cond = {**probe.cond, **trigger}
        before, without = (probe.values(g) for g in (probe.nothing, probe.everything))
        found = smallest(probe, probe.drops(4), before.tolist(), (without + 0.1 * (before - without)).tolist(), 472)
        for own, one in zip(sets, found, strict=True):
            own.append(list(one.places))
        sizes += [len(one.places) for one in found]
    rng = np.random.default_rng(0)
    drawn = [[rng.choice(944, len(one), replace=False).tolist() for one in own] for own in sets]
    shared, chance = ([overlap(own) or 0.0 for own in each] for each in (sets, drawn))
    print(
        f"neurons of a trigger: median {np.median(sizes):.0f}; shared by the triggers of one image, intersection over "
    )
    print(
        f"union: {np.mean(shared):.2f}, range {min(shared):.2f} to {max(shared):.2f}; at random {np.mean(chance):.2f}"
    )


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--model", default="demo", help="demo or demo-flow")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--controls", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("recover-runs"))
    parser.add_argument(
        "--attack-steps", type=int, default=RECOVERY.attack_steps, help="of the search for an embedding"
    )
    parser.add_argument("--edits", type=int, help="only the first so many edits")
    parser.add_argument("--overlap", action="store_true")
    args = timing.parsed(parser, prompts=1, controls=1, attack_steps=1, edits=2)
    quiet()
    torch.set_num_threads(1)
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    prompts = demo.prompts("verbatim")[: args.prompts]
    how = replace(RECOVERY, attack_steps=args.attack_steps)
    table(model, prompts, args.controls, args.out, how, args.edits)
    if args.overlap:
        overlaps(model, prompts)


if __name__ == "__main__":
    main()
