"""Every mitigation over its strength on the bundled model: copying, alignment and cost, by kind of prompt.

    python benchmarks/mitigations.py --out FOLDER [--model demo-flow] [--seed 1000] [--steps 20] [--guard] [--seconds]

Draws 10 memorized captions, 6 captions of templates and 10 ordinary ones under each mitigation, no threshold before it,
the same seeds for each; goes on where it was. An image replicates if the pixel cosine with its own training image is at
least 0.8; SSCD, where the packaged network is installed, compares with that image through the autoencoder. Alignment
is the share of images whose concept is the nearest of the bundled ones; CHANCE is what shuffled prompts get. `--guard`
draws all 30 memorized captions, 4 seeds each, behind the threshold instead, beside as many ordinary images. `--seconds`
times 4 memorized images under each mitigation at its first strength, in CPU seconds an image.
"""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import mnemoscope as mn
import timing
from bundled import sscd_features, through_autoencoder
from mnemoscope import demo, features, registry, stats
from mnemoscope.features.alignment import aligner
from mnemoscope.features.references import read_references
from mnemoscope.generation.run import Generation
from mnemoscope.mitigation.chosen import Mitigation, mitigated
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_rows
from mnemoscope.sweep.curves import SweepPoint, curve
from mnemoscope.sweep.run import run_sweep

REPLICATES = 0.8
STRENGTHS: dict[str, tuple[Any, ...]] = {
    "embedding_descent": (1.5, 1.0, 0.7, 0.4),
    "noise_descent": (1.0,),
    "guidance_schedule": (500, 300, 200, 100),
    "embedding_noise": (0.5, 1.0, 1.5, 2.5),
    "padding_mask": (0.7,),
    "attention_rescaling": (1.25,),
    "attention_attenuation": (0.3, 0.0),
    "random_words": (1, 4, 16),
    "random_numbers": (1, 4, 16),
    "repeat_words": (4, 16),
}
FLOW: dict[str, tuple[Any, ...]] = {  # demo-flow: targets in x0, and timesteps of a flow
    "embedding_descent": ("12:x0", "8:x0", "5:x0"),
    "noise_descent": ("8:x0",),
    "guidance_schedule": (900, 700, 500),
    "embedding_noise": (0.3, 1.0, 2.0),
    "random_words": (4, 16),
    "random_numbers": (4, 16),
    "repeat_words": (4, 16),
}
FIXED: dict[str, dict[str, Any]] = {"noise_descent": {"iterations": 20}}


def tried(model: str = "demo") -> list[SweepPoint]:
    found, strengths = [SweepPoint()], STRENGTHS if model == "demo" else FLOW
    every = [*registry.names("mitigate"), *registry.names("caption")]
    for name in [n for n in every if not registry.missing(registry.stopping(n), ()) and (model == "demo" or n in FLOW)]:
        parameter = (registry.stopping(name).strength or (None,))[0]
        for strength in strengths.get(name, (None,)):
            own = {} if parameter is None else {parameter: strength}
            found.append(SweepPoint(Mitigation(name, {**FIXED.get(name, {}), **own}), parameter, strength))
    return found


def prompts(most: int) -> list[Prompt]:
    layouts = [r.caption for r in demo.references() if r.kind == "template" and r.caption][:12:2]
    kinds = {"verbatim": demo.prompts("verbatim")[:10], "template": layouts, "ordinary": demo.prompts("ordinary")[:10]}
    return [
        Prompt(p.id, p.text, label=kind != "ordinary", kind=kind)
        for kind, texts in kinds.items()
        for p in as_prompts(texts[:most])
    ]


def interval(row: dict[str, Any], mean: str, name: str, form: str = ".2f") -> str:
    ends = row[f"{name}_interval"]
    if row[mean] is None or ends is None:  # of a single prompt there is no interval
        return "" if row[mean] is None else f"{row[mean]:{form}}"
    return f"{row[mean]:{form}} [{ends[0]:{form}}, {ends[1]:{form}}]"


def table(model: mn.Denoiser, folder: Path, points: list[SweepPoint]) -> None:
    """One line a kind and point, in Markdown."""
    rows, embed = read_rows(folder), sscd_features()
    own = {r.caption: r.image().convert("RGB") for r in demo.references()}
    seen = dict(zip(own, through_autoencoder(model, list(own.values())), strict=True)) if embed else {}
    vectors = dict(zip(seen, embed(list(seen.values())), strict=True)) if embed else {}
    print("| kind | mitigation | strength | replicates | similarity | SSCD | alignment | evaluations | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in ("verbatim", "template", "ordinary"):
        for point in points:
            part = [r for r in rows if r["kind"] == kind]
            found = curve(part, point, REPLICATES)
            mine = [r for r in part if (r["mitigation"], r["strength"]) == (point.method, point.strength)]
            sscd = ""
            if embed and kind != "ordinary":
                made = embed([Image.open(folder / r["file"]) for r in mine])
                sscd = f"{np.mean([m @ vectors[r['prompt']] for m, r in zip(made, mine, strict=True)]):.2f}"
            aligned = "other_alignment" if kind == "ordinary" else "alignment"
            print(
                f"| {kind} | `{point.method}` | {'' if point.strength is None else point.strength} "
                f"| {interval(found, 'replication_rate', 'replication')} "
                f"| {interval(found, 'similarity_mean', 'similarity')} | {sscd} "
                f"| {interval(found, f'{aligned}_mean', aligned)} "
                f"| {found['evaluations_per_image']:.0f} | {found['seconds_per_image']:.2f} |",
                flush=True,
            )


def guarded(model: mn.Denoiser, seed: int, steps: int, threshold: str, target: str, images: int, most: int) -> None:
    """Replication of all memorized captions with and without a guard, and whether ordinary images stay as they are."""
    pipe, own = model.pipe, {r.caption: r.image().convert("RGB") for r in demo.references()}
    pipe.set_progress_bar_config(disable=True)
    guard = mn.Guard(pipe, threshold=threshold, target=target, iterations=40)
    asked = {"num_inference_steps": steps, "guidance_scale": 3.0, "num_images_per_prompt": images}
    copied, kept, seen = {"bare": [], "guarded": []}, [], []
    for memorized, ordinary in zip(demo.prompts("verbatim")[:most], demo.prompts("ordinary")[:most], strict=True):
        made = {}
        for name, draw in (("bare", pipe), ("guarded", guard)):
            seeds = [torch.Generator().manual_seed(seed + k) for k in range(images)] * 2
            made[name] = draw([memorized, ordinary], generator=seeds, **asked).images
            copied[name] += list(features.pixels(made[name][:images]) @ features.pixels([own[memorized]])[0])
        seen += guard.seen
        pairs = zip(made["bare"][images:], made["guarded"][images:], strict=True)
        kept += [np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs]
    flagged = [s["flagged"] for s in seen]
    print(f"flagged: {sum(flagged)} of {len(flagged)} images, threshold {threshold}, target {target}")
    for name, values in copied.items():
        count = int((np.array(values) >= REPLICATES).sum())
        low, high = stats.wilson_interval(count, len(values))
        print(
            f"{name}: {count} of {len(values)} memorized images replicate [{low:.3f}, {high:.3f}], "
            f"cosine {np.mean(values):.3f}, at most {np.max(values):.3f}"
        )
    print(f"ordinary images bit-identical: {sum(kept)} of {len(kept)}")


def timed(model: mn.Denoiser, seed: int, steps: int) -> None:
    """CPU seconds and evaluations of an image under each mitigation at its first strength, beside none."""
    texts, seeds, plain = demo.prompts("verbatim")[:4], [seed] * 4, 0.0
    for name, points in itertools.groupby(tried(model.source), key=lambda p: p.method):
        point, times = next(points), []
        for _ in range(3):
            began, before = time.process_time(), model.network_evaluations
            with mitigated(model, [point.mitigation] if point.mitigation else []):
                model.generate(texts, seeds, num_inference_steps=steps, guidance_scale=3.0)
            times.append((time.process_time() - began) / 4)
        plain = plain or statistics.median(times)
        evaluations, took = (model.network_evaluations - before) / 4, statistics.median(times)
        print(
            f"{name:22} {point.strength}: {evaluations:.0f} evaluations, {took:.3f} s, {took / plain:.2f}x", flush=True
        )


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--images", type=int, default=4, help="seeds of each caption behind the guard")
    parser.add_argument("--most", type=int, default=30, help="memorized captions behind the guard")
    parser.add_argument("--seconds", action="store_true")
    parser.add_argument("--kinds", type=int, default=10, help="prompts of each kind")
    parser.add_argument("--points", type=int, help="only the first so many mitigations and strengths")
    parser.add_argument("--model", default="demo", help="demo or demo-flow")
    parser.add_argument("--threshold", default="1.5", help="NUMBER[:eps|:x0]")
    parser.add_argument("--target", default="1.0", help="NUMBER[:eps|:x0]")
    args = timing.parsed(parser, steps=1, kinds=1, images=1, most=1, points=2, out=Path("mitigations"))
    quiet()
    torch.set_num_threads(1)
    model = mn.Denoiser.from_pretrained(args.model)
    if args.seconds:
        timed(model, args.seed, args.steps)
        return
    if args.guard:
        guarded(model, args.seed, args.steps, args.threshold, args.target, args.images, args.most)
        return
    points = tried(args.model)[: args.points]
    drawn = Generation(1, args.seed, args.steps, 3.0)
    references = read_references(demo.HERE / "references")
    run_sweep(model, prompts(args.kinds), args.out, drawn, points, references, alignment=aligner("concepts"))
    table(model, args.out, points)


if __name__ == "__main__":
    main()
