"""Do the words that only a memorized caption has get the highest attribution? And what do the other positions carry?

    python benchmarks/words.py [--seeds 4] [--seed 1000] [--scores noise_norm score_norm ...] [--steps all]

Prints two Markdown tables for the bundled model. In the first, each explanation ranks the words of the 30 verbatim
captions by the largest value among their tokens and by the sum of them, averaged over the seeds, at the score's own
steps unless others are given; marks such as commas are no words. A trigger is a word that no other caption has. Such
words are rare, hence cut into more tokens, and a long word wins more often whatever the values are: compare with the
mean of 100 random explanations. The last column has no such favour: how often a token of a trigger has a higher value
than another word's token of the same caption (whole words with `unit=word`, which go by the sum), 0.5 by chance, with
a bootstrap interval over the captions. The second
table says how much of a score is lost without the embeddings of each class of positions.
"""

import functools
import statistics

import numpy as np
import torch
import yaml

import mnemoscope as mn
import timing
from mnemoscope import demo, registry, stats
from mnemoscope.explanation.run import Explanation, explain_rows
from mnemoscope.job.batching import chunks
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts

SCORES = ("noise_norm", "score_norm", "flipd", "sharpness", "anisotropy")
EXPLAINERS: tuple[tuple[str, dict], ...] = (
    ("token_gradients", {}),
    ("token_gradients", {"value": "signed"}),
    ("token_occlusion", {}),
    ("token_occlusion", {"unit": "word"}),
)
CLASSES = ("bos", "prompt", "eos", "padding")


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--most", type=int, default=30, help="prompts of each kind")
    parser.add_argument("--draws", type=int, default=100, help="random explanations")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--model", default="demo", help="demo or demo-flow")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("--steps", help="a number, all or last, in place of the scores' own steps")
    args = timing.parsed(parser, seeds=1, scores=["noise_norm"], most=2, draws=2)
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    explain = functools.partial(rows, model, seed=args.seed, seeds=args.seeds)
    verbatim = [row for row in demo.truth() if row["kind"] == "verbatim"][: args.most]
    prompts, triggers = [row["prompt"] for row in verbatim], [row["triggers"] for row in verbatim]
    print("| explanation | score | steps | top word, by max | top word, by sum | a trigger's token above another's |")
    print("|---|---|---|---|---|---|")
    for name, given in EXPLAINERS:
        for score in args.scores:
            steps = registry.get("score", score).steps if args.steps is None else yaml.safe_load(args.steps)
            found = explain(name, prompts, {"score": score, "steps": steps, **given})
            what = ", ".join([f"`{name}`", *(f"{k}={v}" for k, v in given.items())])
            told(f"{what} | {score} | {steps}", [hits(*pair) for pair in zip(found, triggers, strict=True)])
    drawn = [explain("random", prompts, {"salt": str(k)}) for k in range(args.draws)]
    every = np.array([[hits(*pair) for pair in zip(found, triggers, strict=True)] for found in drawn])
    by_max, by_sum, above = every.mean((0, 1))
    print(f"| `random`, {len(drawn)} times | | | {by_max:.1%} | {by_sum:.1%} | {above:.3f} |", flush=True)
    print("\n| score | prompts | score | " + " | ".join(f"without {c}" for c in CLASSES) + " |")
    print("|---|---|---|---|---|---|---|")
    for score in args.scores:
        for kind in demo.KINDS:
            carried(explain, model, score, demo.prompts(kind)[: args.most], kind, args.seed, args.seeds)


def rows(model: mn.Denoiser, name: str, prompts: list[str], given: dict, *, seed: int, seeds: int) -> list[dict]:
    """Explanation rows of the prompts."""
    asked = Explanation(name, given, seed=seed, seeds=seeds)
    return [row for part in chunks(as_prompts(prompts), 4) for row in explain_rows(model, part, asked)]


def hits(row: dict, triggers: list[str]) -> tuple[float, float, float]:
    """Whether the top word is a trigger by the maximum and by the sum, and how often its tokens are above others'."""
    words = [w for w in row["words"] if any(c.isalnum() for c in w["word"])]
    own = [w["word"].lower() in triggers for w in words]
    tops = [own[int(np.argmax([w[merge] for w in words]))] for merge in ("max", "sum")]
    whole = row["params"].get("unit") == "word"  # then the tokens only share what their word has
    tokens = [[w["sum"]] if whole else row["scores"][w["first"] : w["last"] + 1] for w in words]
    groups = [np.concatenate([t for t, o in zip(tokens, own, strict=True) if o is said]) for said in (True, False)]
    return float(tops[0]), float(tops[1]), stats.auc(*groups)


def told(name: str, found: list[tuple[float, float, float]]) -> None:
    values = np.array(found)
    shares = []
    for column in values[:, :2].T:
        low, high = stats.wilson_interval(int(column.sum()), len(column))
        shares.append(f"{int(column.sum())}/{len(column)} [{low:.1%}, {high:.1%}]")
    low, high = stats.mean_interval(values[:, 2])
    print(f"| {name} | {' | '.join(shares)} | {values[:, 2].mean():.3f} [{low:.3f}, {high:.3f}] |", flush=True)


def carried(explain, model: mn.Denoiser, score: str, prompts: list[str], kind: str, seed: int, seeds: int) -> None:
    """Mean score of some prompts of a kind, and its mean drop without each class of positions."""
    scores, drops = [], []
    asked = {"score": score, "steps": registry.get("score", score).steps}
    places = len(model.family.tokens([""])[0])
    for row in explain("embedding_classes", prompts, asked):
        lengths = {"bos": 1, "eos": 1, "padding": places - 2 - len(row["tokens"])}
        each = {c: row["special"][c] / n for c, n in lengths.items() if n} | {"prompt": row["scores"][0]}
        drops.append([each.get(c, 0.0) for c in CLASSES])
    for part in chunks(prompts, 4):
        texts = [p for p in part for _ in range(seeds)]
        trajectory = mn.Trajectory(model, texts, list(range(seed, seed + seeds)) * len(part))
        scores += mn.detect(trajectory, score).tolist()
    means = " | ".join(f"{statistics.fmean(column):+.3g}" for column in zip(*drops, strict=True))
    print(f"| {score} | {kind} | {statistics.fmean(scores):.3g} | {means} |", flush=True)


if __name__ == "__main__":
    main()
