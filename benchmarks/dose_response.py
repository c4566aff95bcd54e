"""How often a model returns a picture by how often it saw it, and how often ordinary prompts show their object.

    python benchmarks/dose_response.py --model out/demo-flow --truth out [--images 4] [--most 1000] [--rows rows.jsonl]

`--truth` is what `python -m mnemoscope.demo.train_graded` wrote: prompts.jsonl, references and twins. An image returns
a picture if its pixels' cosine to one of the picture's images is 0.8 or more and to none of another picture's is
higher. Prompts of twins, which were not trained, are held against the twins' pictures. Intervals are Wilson's
with a prompt as the unit. `python -m mnemoscope.demo.card` makes the model card and its figure from the rows.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import mnemoscope as mn
import timing
from mnemoscope import features, stats
from mnemoscope.demo.concepts import load
from mnemoscope.model.loading import quiet
from mnemoscope.pictures import read_pictures

SEED, COPY, AT_ONCE = 5000, 0.8, 16


def pictures(truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all pictures of entries, trained or not, and the key of each."""
    vectors, keys = [], []
    for folder in ("references", "twins"):
        rows = [json.loads(line) for line in (truth / folder / "captions.jsonl").read_text().splitlines()]
        by_name = {p.key: p for p in read_pictures(truth / folder)}
        kept = [r for r in rows if r["entry"] != "ordinary"]
        vectors.append(features.pixels([by_name[r["file"]].image() for r in kept]))
        keys += [r["entry"] for r in kept]
    return np.concatenate(vectors), np.array(keys)


def drawn(model: mn.Denoiser, rows: list[dict], images: int, steps: int, guidance: float) -> list[dict[str, Any]]:
    """A row for each prompt and seed, with its image."""
    how = {"steps": steps, "guidance": guidance}
    asked = [r | {"seed": SEED + k} | how for r in rows for k in range(images)]
    for k in range(0, len(asked), AT_ONCE):
        part = asked[k : k + AT_ONCE]
        sampling = {"num_inference_steps": steps, "guidance_scale": guidance}
        made = model.generate([r["prompt"] for r in part], [r["seed"] for r in part], **sampling)
        for row, image in zip(part, made, strict=True):
            row["image"] = image
        print(f"{min(k + AT_ONCE, len(asked))} of {len(asked)} images", end="\r", flush=True)
    return asked


def judge(rows: list[dict], truth: Path) -> None:
    """Whether each image returns its prompt's picture, and whether it shows its prompt's object."""
    vectors, keys = pictures(truth)
    cosines = features.pixels([r["image"] for r in rows]) @ vectors.T
    concepts = load()
    known = [r["concept"] in concepts.index for r in rows]
    names = [r["concept"] if k else concepts.names[0] for r, k in zip(rows, known, strict=True)]
    ranks = concepts.rank([r.pop("image") for r in rows], names)
    for row, cosine, is_known, rank in zip(rows, cosines, known, ranks, strict=True):
        row["aligned"] = bool(rank == 0) if is_known else None
        if "entry" in row:
            own = cosine[keys == row["entry"]].max()
            row["similarity"] = float(own)
            row["returned"] = bool(own >= COPY and own >= cosine.max())


def share(rows: list[dict], field: str) -> str:
    """The mean over prompts of the share of their images, with its interval."""
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        if row.get(field) is not None:
            by_prompt.setdefault(row["prompt"], []).append(row[field])
    means = np.array([np.mean(v) for v in by_prompt.values()])
    if len(means) < 2:
        return "-"
    low, high = stats.wilson_interval(means.sum(), len(means))
    return f"{means.mean():.2f} [{low:.2f}, {high:.2f}]"


def group(row: dict[str, Any]) -> tuple[str, str, int]:
    """What is told together: kind, source and number of views."""
    return row["kind"], row["source"], row.get("views", 0)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--most", type=int, default=1000, help="prompts of each kind and number of views")
    args = timing.parsed(parser, images=1, steps=1, most=1)
    groups: dict[tuple[str, str, int], list[dict]] = {}
    for line in (args.truth / "prompts.jsonl").read_text().splitlines():
        row = json.loads(line)
        groups.setdefault(group(row), []).append(row)
    asked = [row for rows in groups.values() for row in rows[: args.most]]
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    found = drawn(model, asked, args.images, args.steps, args.guidance)
    judge(found, args.truth)
    print(f"\n{args.images} images a prompt, {args.steps} steps, guidance {args.guidance:g}")
    print("| kind | source | views | prompts | picture returned | median likeness | shows its object |")
    print("|---|---|---|---|---|---|---|")
    for kind, source, views in groups:
        rows = [r for r in found if group(r) == (kind, source, views)]
        likeness = [r["similarity"] for r in rows if "similarity" in r]
        middle = f"{np.median(likeness):.2f}" if likeness else "-"
        count = len({r["prompt"] for r in rows})
        cells = (kind, source, views, count, share(rows, "returned"), middle, share(rows, "aligned"))
        print("| " + " | ".join(map(str, cells)) + " |")
    if args.rows:
        args.rows.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in found))


if __name__ == "__main__":
    main()
