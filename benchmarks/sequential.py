"""One seed, four seeds, and seeds only where they decide: how many trained prompts each finds, at what cost.

    python benchmarks/sequential.py --model out/demo --truth out [--most 4] [--error 0.05] [--budget B] [--out DIR]

`--truth` is a folder as `mnemoscope bench` takes it; the bundled models have their own. Every prompt is scored with all
seeds once, as a run of its own, and the sequential detection is a second run. The negatives calibrate all three.
Intervals are 95 % bootstraps that draw pictures anew with all their prompts, and negatives, and set each threshold
again. So that no threshold is judged on what set it, the negatives are also halved, at random by their text: one half
sets the thresholds, the other tells the false alarms.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np

import mnemoscope as mn
from mnemoscope import stats
from mnemoscope.bench.truth import TruePrompt, Truth
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.model.loading import quiet
from mnemoscope.run.run import read_rows
from mnemoscope.stats.sequential import Stopping

FPR, RESAMPLES = 0.01, 1000


def first_half(known: TruePrompt) -> bool:
    """Whether a prompt is of the half that calibrates."""
    return hashlib.sha256(f"half {known.prompt.text}".encode()).digest()[0] % 2 == 0


def groups(known: list[TruePrompt]) -> list[np.ndarray]:
    """Places of the prompts of each picture, which are drawn together."""
    named: dict[str, list[int]] = {}
    for place, each in enumerate(known):
        named.setdefault(each.entry, []).append(place)
    return [np.array(places) for places in named.values()]


def drawn(rng: np.random.Generator, pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([pictures[k] for k in rng.integers(len(pictures), size=len(pictures))])


def interval(statistic, members: list[TruePrompt], ordinary: list[TruePrompt]) -> tuple[float, float]:
    ours, others = groups(members), groups(ordinary)
    return stats.bootstrap(lambda rng: statistic(drawn(rng, ours), drawn(rng, others)), resamples=RESAMPLES)


def told(name: str, scores: np.ndarray, member: np.ndarray, known: list[TruePrompt], cost: float) -> None:
    """The row of a detector: share found at 1 % false alarms with its interval, and the evaluations of a prompt."""
    found, ordinary = scores[member], scores[~member]

    def rate(mine: np.ndarray, others: np.ndarray) -> float:
        return stats.tpr_at_fpr(found[mine], ordinary[others], FPR)

    everyone = rate(np.arange(len(found)), np.arange(len(ordinary)))
    split = [[e for e in known if e.is_member], [e for e in known if not e.is_member]]
    low, high = interval(rate, *split)
    print(f"| {name} | {everyone:.3f} [{low:.3f}, {high:.3f}] | {cost:.2f} |")


def halves(name: str, scores: np.ndarray, known: list[TruePrompt]) -> None:
    """Found and false alarms where one half of the negatives sets the threshold, and the other is tested."""
    set_by = np.array([not e.is_member and first_half(e) for e in known])
    tested = np.array([not e.is_member and not first_half(e) for e in known])
    member = np.array([e.is_member for e in known])
    if set_by.sum() < 1 / FPR:
        print(f"| {name} | - | half of the negatives are {set_by.sum()}, too few for a threshold |")
        return
    threshold = stats.threshold_at_fpr(scores[set_by], FPR)
    alarms, count = int((scores[tested] >= threshold).sum()), int(tested.sum())
    low, high = stats.wilson_interval(alarms, count)
    found = float((scores[member] >= threshold).mean())
    print(f"| {name} | {found:.3f} | {alarms} of {count} [{low:.3f}, {high:.3f}] |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--score", default="noise_norm")
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--error", type=float, default=0.05)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--limit", type=int, help="prompts of each kind and number of views")
    parser.add_argument("--out", type=Path, help="folder of the two runs, which go on where they were")
    args = parser.parse_args()
    truth = Truth.of(args.model, args.truth, args.limit)
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    out = args.out or Path(tempfile.mkdtemp())
    sampling = {"num_inference_steps": 20, "guidance_scale": 3.0}
    params = {"score": args.score, "most": args.most, "error": args.error, "budget": args.budget}
    full = run_detection(model, truth.prompts, out / "full", Detection(args.score, seeds=args.most, **sampling))
    ours = run_detection(model, truth.prompts, out / "sequential", Detection("sequential", params, **sampling))
    one = run_detection(model, truth.prompts, out / "one", Detection(args.score, **sampling))
    report(truth, args.most, [read_rows(out / name) for name in ("full", "sequential")], [full, ours, one])


def report(truth: Truth, most: int, rows: list[list[dict]], summaries: list[dict]) -> None:
    full, ours, one = summaries
    all_of, stopped = ({r["id"]: r for r in each if r["status"] == "ok"} for each in rows)
    known = [e for e in truth.known if e.prompt.id in all_of and e.prompt.id in stopped]
    member = np.array([e.is_member for e in known])
    values = np.array([all_of[e.prompt.id]["per_seed"] for e in known])
    stopping = Stopping(tuple(ours["stopping"]["shifts"]), tuple(ours["stopping"]["margins"]))
    turning = np.array([stopping.turning(own)[0] for own in values.tolist()])
    count = len(truth.known)
    print(f"{member.sum()} trained prompts, {(~member).sum()} others; error {ours['stopping']['error']:.3g}\n")
    print("| seeds | found at 1 % false alarms | evaluations a prompt |\n|---|---|---|")
    told("1", values[:, 0], member, known, one["network_evaluations"] / count)
    told(f"{most}", values.mean(1), member, known, full["network_evaluations"] / count)
    told("sequential", turning, member, known, ours["evaluations_per_prompt"])
    print("\n| seeds | found | false alarms of the other half |\n|---|---|---|")
    names = ("1", f"{most}", "sequential")
    for name, scores in zip(names, (values[:, 0], values.mean(1), turning), strict=True):
        halves(name, scores, known)
    costs = np.array([stopped[e.prompt.id]["evaluations"] for e in known])
    looks = np.array([stopped[e.prompt.id]["looks"] for e in known])
    print(f"\nEvaluations of a trained prompt {costs[member].mean():.2f}, of another one {costs[~member].mean():.2f}")
    alone = f"{looks[member].mean():.2f}, of another one {looks[~member].mean():.2f}"
    print(f"Without calibration, seeds of a trained prompt {alone}")
    flags = np.array([stopped[e.prompt.id]["flagged"] for e in known])
    print(f"Found by the run's own flags {flags[member].mean():.3f}, false alarms {flags[~member].mean():.4f}")
    both = values.mean(1) >= ours["threshold"]
    for name, where in (("flagged by all seeds, cleared early", both), ("cleared by all seeds, flagged early", ~both)):
        wrong = int((flags != both)[where].sum())
        low, high = stats.wilson_interval(wrong, int(where.sum()))
        print(f"{name}: {wrong} of {where.sum()} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
