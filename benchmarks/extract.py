"""How many of the pictures that a model was shown often a search finds from words alone, beside random prompts.

python benchmarks/extract.py --model PIPELINE --truth FOLDER --budget 20000

A picture is found if a hit's pixels have a cosine of 0.8 or more with it, as copies are judged on all of this truth.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from mnemoscope import demo, plots
from mnemoscope.extract.hits import read_hits
from mnemoscope.extract.run import run_extraction
from mnemoscope.extract.settings import Extraction
from mnemoscope.features import descriptor, pixels
from mnemoscope.features.raw_pixels import COPY
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.pictures import read_pictures
from mnemoscope.stats import wilson_interval


def targets_of(truth: Path, views: int) -> dict[str, list[Image.Image]]:
    """Pictures by the prompt or entry that they belong to, of entries with at least so many views."""
    rows = [json.loads(line) for line in (truth / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [r for r in rows if r["kind"] not in ("ordinary", "unseen") and r.get("views", views) >= views]
    entry = {r["prompt"]: r.get("entry", r["prompt"]) for r in known}
    found: dict[str, list[Image.Image]] = {}
    for picture in read_pictures(truth / "references"):
        for name in {entry[c] for c in picture.captions if c in entry}:
            found.setdefault(name, []).append(picture.image())
    return found


def found_at(run: Path, targets: dict[str, list[Image.Image]]) -> list[int]:
    """Evaluations that were spent when each target was found first."""
    first: dict[str, int] = {}
    vectors = {name: pixels(pictures) for name, pictures in targets.items()}
    file = run / "hits.jsonl"
    for hit in read_hits(file) if file.read_text() else ():
        image = Image.open(run / hit["file"]).convert("RGB")
        for name, own in vectors.items():
            if (pixels([image]) @ own.T).max() >= COPY:
                first.setdefault(name, hit["evaluations"])
    return sorted(first.values())


def main() -> None:
    """Search by walks and by random prompts for the same budget, and print what each found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--truth", type=Path, default=demo.HERE)
    parser.add_argument("--views", type=int, default=256)
    parser.add_argument("--budget", type=int, default=20_000)
    parser.add_argument("--num-inference-steps", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out or Path(tempfile.mkdtemp())
    model, targets = Denoiser.from_pretrained(options.model), targets_of(options.truth, options.views)
    walks = Extraction(budget=options.budget, num_inference_steps=options.num_inference_steps, images=3, least=2)
    curves: dict[str, list[int]] = {}
    for name, extraction in {"walks": walks, "random": replace(walks, chains=0)}.items():
        summary = run_extraction(model, out / name, extraction, descriptor("pixels"), batch=64)
        curves[name] = found_at(out / name, targets)
        count, all_of = len(curves[name]), len(targets)
        low, high = wilson_interval(count, all_of)
        print(
            f"{name}: {count} of {all_of} pictures ({count / all_of:.2f}, {low:.2f} to {high:.2f}), "
            f"{summary['hits']} images in all, {summary['network_evaluations']} evaluations, "
            f"{summary['seconds']:.0f} s; at {curves[name]}"
        )
    plots.save(plots.found_plot(curves, options.budget), out / "found.png")


if __name__ == "__main__":
    main()
