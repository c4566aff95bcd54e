"""Members against twins: how well signals tell them apart by the number of views, and the level of the test of a set.

    python benchmarks/membership.py --model out/demo --truth out --out membership-runs [--limit 200] [--sets 500]

`--truth` is what `python -m mnemoscope.demo.train_graded` wrote: `prompts.jsonl`, `references` (trained) and `twins`,
drawn from the same generator and never trained on. Each picture of the kinds asked for and each twin of one is looked
at once, in a run that is resumed. Then, from these rows alone: AUC of each signal and of all together against the
twins, by views; the test of sets of members of each size; and `--sets` tests of sets of twins against other twins,
which should be found in 5 of 100 at most. Intervals of AUCs and of shares are of 95 % over pictures and over sets.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import mnemoscope as mn
from mnemoscope.membership.evidence import adjusted, compared, normal_scores, p_of_set
from mnemoscope.membership.run import Membership, run_membership
from mnemoscope.membership.sets import Sets, read_sets
from mnemoscope.membership.verdict import Table
from mnemoscope.model.loading import quiet
from mnemoscope.run.run import read_rows
from mnemoscope.stats import auc, bootstrap_interval, wilson_interval

FEWEST = 10  # members of a number of views that an AUC is said of
PERMUTATIONS = 199


def doses(truth: Path, folder: str = "references") -> dict[str, tuple[str, int]]:
    """Kind and views of the picture of each file, or of its twin's; ordinary pictures were seen once."""
    entries = [json.loads(line) for line in (truth / "prompts.jsonl").read_text().splitlines()]
    trained = [row for row in entries if row.get("views")]
    known = {row[key]: (row["source"], row["views"]) for row in trained for key in ("entry", "twin")}
    rows = [json.loads(line) for line in (truth / folder / "captions.jsonl").read_text().splitlines()]
    return {row["file"]: known.get(row["entry"], ("ordinary", 1)) for row in rows}


def pictures(truth: Path, kinds: list[str], limit: int | None) -> Sets:
    """Members of these kinds and their twins, at most so many of each."""
    every = read_sets({"picture": str(truth / "references"), "held-out": str(truth / "twins")})
    known = {"picture": doses(truth), "held-out": doses(truth, "twins")}
    kept = [each for each in every.entries if known[each.role][each.picture.key][0] in kinds]
    groups = [[e for e in kept if e.role == role] for role in known]
    return Sets([each for group in groups for each in group[:limit]], every.copies)


def said(value: float, interval: Any) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def by_dose(rows: list[dict[str, Any]], table: Table, features: np.ndarray, known: dict[str, tuple[str, int]]) -> None:
    """AUC of each signal, and of all together, of the members of each kind and number of views."""
    names = list(dict.fromkeys(table.names))
    groups: dict[tuple[str, int], list[int]] = {}
    for place, row in enumerate(rows):
        if row["role"] == "picture":
            groups.setdefault(known[row["file"]], []).append(place)
    columns = [features[:, [each == name for each in table.names]].mean(1) for name in names]
    others = np.flatnonzero(table.held_out)
    print("| kind | views | members | all together | p | " + " | ".join(names) + " |")
    print("|" + "---|" * (len(names) + 5))
    for (kind, views), mine in sorted(groups.items()):
        if len(mine) < FEWEST:
            continue
        alone = [
            said(auc(c[mine], c[others]), bootstrap_interval(auc, c[mine], c[others], resamples=300)) for c in columns
        ]
        part = np.concatenate([mine, others])
        found = compared(features[part], np.arange(len(part)) < len(mine), permutations=999)
        cells = [kind, views, len(mine), said(found.auc, found.interval), f"{found.p:.3f}", *alone]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def found_with(table: Table, features: np.ndarray, mine: np.ndarray, sizes: list[int], sets: int) -> None:
    """How often sets of so many members are found against as many twins."""
    rng = np.random.default_rng(1)
    others = np.flatnonzero(table.held_out)
    for size in (s for s in sizes if s <= min(len(mine), len(others))):
        hits = 0
        for draw in range(sets):
            part = np.concatenate([rng.choice(mine, size, False), rng.choice(others, size, False)])
            p = p_of_set(features[part], np.arange(2 * size) < size, permutations=PERMUTATIONS, seed=draw)
            hits += p <= 0.05
        print(
            f"{size} members against {size} twins: found {said(hits / sets, wilson_interval(hits, sets))}", flush=True
        )


def level(table: Table, adjust: bool, size: int, sets: int) -> None:
    """How often a set of twins is found against other twins."""
    rng, hits = np.random.default_rng(2), {0.05: 0, 0.01: 0}
    others = np.flatnonzero(table.held_out)
    size = min(size, len(others) // 2)
    for draw in range(sets):
        part = rng.permutation(others)[: 2 * size]
        signals, plain = normal_scores(table.signals[part]), normal_scores(table.plain[part])
        features = adjusted(signals, plain) if adjust else signals
        p = p_of_set(features, np.arange(2 * size) < size, permutations=PERMUTATIONS, seed=draw)
        hits = {limit: count + (p <= limit) for limit, count in hits.items()}
    for limit, count in hits.items():
        share = said(count / sets, wilson_interval(count, sets))
        print(f"{sets} sets of {size} twins against {size} others, p <= {limit}: {share}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("membership-runs"))
    parser.add_argument("--kind", action="append", help="of the members: verbatim, duplicated, template, ordinary")
    parser.add_argument("--method", action="append", help="a signal; all if none")
    parser.add_argument("--limit", type=int, help="members, and twins, at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--size", type=int, default=40, help="pictures of a set of the level")
    parser.add_argument("--no-adjust", action="store_true")
    args = parser.parse_args()
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    sets = pictures(args.truth, args.kind or ["verbatim", "duplicated"], args.limit)
    asked = Membership(args.method or (), seeds=args.seeds, adjust=not args.no_adjust)
    summary = run_membership(model, sets, args.out, asked)
    keys = ("pictures", "held_out", "p", "auc", "auc_interval", "blind_p", "blind_auc", "verdict", "needed_interval")
    print({key: summary[key] for key in (*keys, "network_evaluations", "seconds")})
    rows = [row for row in read_rows(args.out) if row["status"] == "ok"]
    table = Table.of(rows)
    features = adjusted(table.signals, table.plain) if asked.adjust else table.signals
    by_dose(rows, table, features, doses(args.truth))
    found_with(table, features, np.flatnonzero(table.member), [20, 40, 80, 160], 100)
    level(table, asked.adjust, args.size, args.sets)


if __name__ == "__main__":
    main()
