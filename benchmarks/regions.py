"""How well do region maps find what a template fixes? And does a mask of them sharpen detection?

    python benchmarks/regions.py [--template 64] [--verbatim 30] [--ordinary 30] [--seed 1000] [--probes 16]

Prints two Markdown tables for the bundled model, one image a prompt, 50 steps at guidance 7.5. The true region is
exact by construction: all pixels of a verbatim prompt, all but the square of the changing object of a template
prompt, none of an ordinary one. The first table has the intersection over union of all images' pixels together: of a
mask of all pixels, of each map cut by its own Otsu threshold, of all maps cut by one Otsu threshold, and at the best
of 101 thresholds, which is an oracle and never below the mask of all pixels; and, without any threshold, how often a
pixel inside the true region of a template image has a higher value than one outside, 0.5 by chance. Intervals are
bootstraps over layouts, of which the template prompts have eight, and over the other prompts. The second table has
the AUC of template and of verbatim prompts against ordinary ones, of the norm of the text's push over all steps with
and without a mask. A line before them says how many template images show their template: root mean squared difference
to a training image outside the object's square under 0.113, as in arXiv:2605.26756.
"""

import numpy as np
import torch
from torch import Tensor

import mnemoscope as mn
import timing
from mnemoscope import demo, stats
from mnemoscope.demo import captions
from mnemoscope.detectors.masked_noise_norm import inside
from mnemoscope.explanation import regions
from mnemoscope.job.batching import chunks
from mnemoscope.model.loading import quiet

SHOWN = (2500 / (3 * 256**2)) ** 0.5  # the paper's limit on the squared error of a picture of 256 pixels, by pixel
BATCH = 16


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--steps", type=int, default=50)
    for kind, count in (("template", 64), ("verbatim", 30), ("ordinary", 30)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=16)
    args = timing.parsed(parser, template=2, verbatim=2, ordinary=2, probes=1, steps=2)
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    kinds = {kind: spread(demo.prompts(kind), getattr(args, kind)) for kind in ("template", "verbatim", "ordinary")}
    prompts = [prompt for own in kinds.values() for prompt in own]
    explained = {
        "`difference_map`": {"method": "difference_map"},
        "`difference_map`, last 5 steps": {
            "method": "difference_map",
            "steps": [*range(max(0, args.steps - 5), args.steps)],
        },
        f"`curvature_map`, {args.probes} probes": {"method": "curvature_map", "probes": args.probes},
        "`bright_ending`": {"method": "bright_ending"},
    }
    maps, norms, images = looked(model, prompts, explained, args.seed, args.steps)
    of = np.array([kind for kind, own in kinds.items() for _ in own])
    truth = np.stack([demo.mask(prompt) for prompt in prompts])
    groups = np.array([layout(prompt) or prompt for prompt in prompts])
    distances = [distance(p, image) for p, image, kind in zip(prompts, images, of, strict=True) if kind == "template"]
    print(f"{sum(d < SHOWN for d in distances)} of {len(distances)} template images show their template.\n")
    print("| images | map | all pixels | own Otsu | one Otsu | best threshold | pixel AUC, template |")
    print("|---|---|---|---|---|---|---|")
    for name, kept in (("template", of == "template"), ("all three kinds", of != "")):
        for title, found in maps.items():
            told(name, title, regions.upsampled(found[kept], truth.shape[1:]), truth[kept], groups[kept])
    print("\n| norm of the push over all steps | template | verbatim |\n|---|---|---|")
    for title, values in norms.items():
        print(f"| {title} | {auc(values, of, 'template')} | {auc(values, of, 'verbatim')} |")


def spread(prompts: list[str], count: int) -> list[str]:
    """So many of the prompts, evenly over them."""
    count = min(count, len(prompts))
    return [prompts[k * len(prompts) // count] for k in range(count)]


def looked(
    model: mn.Denoiser, prompts: list[str], explained: dict[str, dict], seed: int, count: int
) -> tuple[dict[str, Tensor], dict[str, np.ndarray], np.ndarray]:
    """Maps by title, norms over all steps by what they are masked by, and the images."""
    maps: dict[str, list[Tensor]] = {title: [] for title in explained}
    norms: dict[str, list[Tensor]] = {"no mask": [], **{f"inside {title}": [] for title in explained}}
    images = []
    for part in chunks(prompts, BATCH):
        trajectory = mn.Trajectory(model, part, seed, num_inference_steps=count)
        steps = trajectory.all()
        own = {title: mn.explain(trajectory, **given) for title, given in explained.items()}
        whole = torch.ones(len(part), *model.latent_shape[1:])
        for title, mask in {"no mask": whole, **{f"inside {title}": found for title, found in own.items()}}.items():
            norms[title].append(torch.stack([inside(step, mask=mask) for step in steps]).mean(0))
        for title, found in own.items():
            maps[title].append(found)
        images.append(model.decode(steps[-1].x_prev))
    joined = {title: torch.cat(found) for title, found in maps.items()}
    return joined, {t: torch.cat(v).double().numpy() for t, v in norms.items()}, torch.cat(images).numpy()


def layout(prompt: str) -> str | None:
    """The template that a prompt is of."""
    return next((t for t in captions.TEMPLATES if prompt.endswith(t.partition("{name}")[2])), None)


def distance(prompt: str, image: np.ndarray) -> float:
    """Root mean squared difference to a training image of the same template, outside the changing object."""
    own = next(r for r in demo.references() if r.kind == "template" and layout(r.caption or "") == layout(prompt))
    wanted = np.asarray(own.image(), float).transpose(2, 0, 1) / 255
    return float(np.sqrt(((image - wanted) ** 2)[:, demo.mask(prompt)].mean()))


def told(name: str, title: str, maps: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> None:
    found = regions.evaluated(maps, truth, groups)
    cells = [f"{v['value']:.3f} [{v['interval'][0]:.3f}, {v['interval'][1]:.3f}]" for v in (
        found[rule]["iou"] for rule in ("all_ones", "otsu", "otsu_of_all", "best")
    )]  # fmt: skip
    mixed = [k for k in range(len(maps)) if truth[k].any() and not truth[k].all()]
    each = [stats.auc(maps[k][truth[k]], maps[k][~truth[k]]) for k in mixed]
    layouts = [
        np.mean([a for a, k in zip(each, mixed, strict=True) if groups[k] == g]) for g in np.unique(groups[mixed])
    ]
    low, high = stats.mean_interval(np.array(layouts))
    print(f"| {name} | {title} | {' | '.join(cells)} | {np.mean(each):.3f} [{low:.3f}, {high:.3f}] |", flush=True)


def auc(values: np.ndarray, of: np.ndarray, kind: str) -> str:
    groups = values[of == kind], values[of == "ordinary"]
    low, high = stats.bootstrap_interval(stats.auc, *groups)
    return f"{stats.auc(*groups):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
