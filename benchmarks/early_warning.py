"""How early a probe tells which captions will be copied: rank correlation of each probe with the training's outcome.

    python benchmarks/early_warning.py RUN [--arm whole]

RUN is a run of `mnemoscope experiment examples/experiments/probes.yaml`. The outcome is the similarity to
their own picture of the images drawn after the training; captions of all seeds are taken together.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

import timing
from mnemoscope.measuring.correlation import spearman
from mnemoscope.run.probe_rows import read_probes
from mnemoscope.run.run import read_rows


def outcomes(run: Path, arm: str) -> dict[tuple[int, str], float]:
    """Mean similarity to the own picture at the end, of each seed and caption."""
    found = defaultdict(list)
    for row in read_rows(run):
        if row.get("arm") == arm and row.get("own_similarity") is not None:
            found[row["seed"], row["prompt"]].append(row["own_similarity"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--arm", default="whole")
    asked = timing.parsed(parser, arm="whole")
    ends = outcomes(asked.run, asked.arm)
    pairs = defaultdict(list)
    for seed in sorted({seed for seed, _ in ends}):
        for row in read_probes(asked.run / "trainings" / f"{asked.arm}-s{seed}"):
            if (end := ends.get((seed, row["prompt"]))) is not None:
                pairs[row["step"], row["detector"]].append((row["score"], end))
                pairs[row["step"], "own_similarity"].append((row["own_similarity"], end))
    for (step, name), values in sorted(pairs.items()):
        probe, end = np.array(values).T
        found = {
            "step": step,
            "probe": name,
            "captions": len(values),
            "spearman": round(spearman(probe, end), 2),
        }
        print(json.dumps(found | {"mean": round(float(probe.mean()), 3)}))


if __name__ == "__main__":
    main()
