"""What rewriting did: which rewrite of a prompt to take, means before and after, the layer6 file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnemoscope import stats
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import RewriteRow
from mnemoscope.run.run import read_rows, write_json


def by_prompt(rows: Sequence[RewriteRow]) -> list[list[RewriteRow]]:
    """The rows with scores, in one list for each prompt."""
    groups: dict[str, list[RewriteRow]] = {}
    for row in rows:
        if row["status"] == "ok" and "score_after" in row:
            groups.setdefault(row["prompt_id"], []).append(row)
    return list(groups.values())


def selected(rows: Sequence[RewriteRow], threshold: float | None) -> list[RewriteRow]:
    """Rows with `selected` at one rewrite of each prompt: the first below the threshold, or else the lowest score.

    The choice of PRSS (Chen et al., CVPR 2025). Rows without scores stay as they are.
    """
    taken = set()
    for group in by_prompt(rows):
        below = (r for r in group if threshold is not None and r["score_after"] < threshold)
        taken.add(next(below, min(group, key=lambda r: r["score_after"]))["id"])
    return [{**r, "selected": r["id"] in taken} if "score_after" in r else r for r in rows]


def summarised(rows: Sequence[RewriteRow], rewriter: str, threshold: float | None) -> Json:
    """Counts, and with scores the means of a prompt's own score, of its rewrites' mean, and of the selected rewrite."""
    good, groups = [r for r in rows if r["status"] == "ok"], by_prompt(rows)
    summary: Json = {"prompts": len({r["prompt_id"] for r in rows}), "rewrites": len(good)}
    summary |= {"rewriter": rewriter, "threshold": threshold}
    if not groups:
        return summary
    before = np.array([g[0]["score_before"] for g in groups])
    after = np.array([np.mean([r["score_after"] for r in g]) for g in groups])
    best = np.array([r["score_after"] for g in groups for r in g if r.get("selected")])
    summary |= {"mean_before": before.mean(), "mean_after": after.mean(), "mean_selected": best.mean()}
    change = after - before
    summary |= {"mean_change": change.mean(), "mean_change_interval": _interval(change)}
    summary["levels"] = {str(level): _level(groups, level, threshold) for level in sorted({r["level"] for r in good})}
    if threshold is not None:
        passing = before >= threshold
        summary |= {"passing": int(passing.sum()), "selected_below": int((best[passing] < threshold).sum())}
        summary["selected_below_interval"] = _rate(summary["selected_below"], summary["passing"])
    return {key: float(value) if isinstance(value, np.floating) else value for key, value in summary.items()}


def _level(groups: Sequence[list[RewriteRow]], level: int, threshold: float | None) -> Json:
    """Mean change of one level; of the rewrites of prompts at or above the threshold, the share that fell below it."""
    of_level = [g for group in groups if (g := [r for r in group if r["level"] == level])]
    change = np.array([np.mean([r["score_after"] - r["score_before"] for r in g]) for g in of_level])
    about: Json = {"mean_change": float(change.mean()), "mean_change_interval": _interval(change)}
    if threshold is not None:
        fell = [r["score_after"] < threshold for g in of_level for r in g if r["score_before"] >= threshold]
        about |= {"passing": len(fell), "share_below": float(np.mean(fell)) if fell else None}
    return about


def _interval(values: np.ndarray) -> list[float] | None:
    return list(stats.mean_interval(values)) if values.size > 1 else None


def _rate(count: int, total: int) -> list[float] | None:
    return list(stats.wilson_interval(count, total)) if total else None


def export_layer6(folder: Path) -> None:
    """Write a rewriting as the perturbation JSON of layer6's code: prompt, level, rewrites with their chosen words."""
    prompts: dict[str, dict[str, list[Json]]] = {}
    for row in read_rows(folder, RewriteRow):
        if row["status"] == "ok":
            words = [word["word"] for word in row["chosen"]]
            levels = prompts.setdefault(row["prompt"], {})
            levels.setdefault(str(row["level"]), []).append(
                {"perturbed_prompt": row["rewrite"], "selected_tokens": words}
            )
    write_json(folder / "perturbations.json", prompts)
