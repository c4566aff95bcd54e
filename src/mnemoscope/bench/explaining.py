"""Explanations on the bench: how many words that only one trained picture has they find, and which regions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnemoscope import registry
from mnemoscope.bench.cell import Bench, Contest, Outcome, Tried, refused_by
from mnemoscope.bench.copies import SHARE, ByDose, Shares
from mnemoscope.bench.figures import Form, Key, Places, figures, pictures, plain
from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.truth import PROMPTS, TruePrompt, Truth
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.masks import Mask, read_masks
from mnemoscope.explanation.run import run_explanation
from mnemoscope.methods import by_name as api
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.prompts.prompt import read_prompts
from mnemoscope.run.image_rows import RegionRow
from mnemoscope.run.rows import ExplainRow, Word
from mnemoscope.run.run import read_rows

MASKS = "masks"  # folder of a truth: PNG files by prompt id or by place, white where all trained pictures are the same
TRIGGERS, CHANCE, ABOVE, IOU, WHOLE, EVALUATIONS = "triggers", "chance", "above", "iou", "whole", "evaluations"
DRAWS = 500  # random explanations of a prompt
FORMS = {
    TRIGGERS: Form(bounded=True),
    CHANCE: Form(),
    ABOVE: Form("{:+.2f}".format),
    IOU: Form(bounded=True),
    WHOLE: Form(bounded=True),
    EVALUATIONS: Form("{:.1f}".format),
}


def _explanation(bench: Bench, tried: Tried) -> Explanation:
    return Explanation(tried.given, bench.trial.own(tried.method), seeds=bench.trial.seeds, **bench.trial.sampling)


def _asked(bench: Bench, tried: Tried) -> list[TruePrompt]:
    """Trained prompts of which it is known what an explanation should find."""
    if tried.method.gives == "regions":
        known = masks(bench.truth)
        return [each for each in bench.truth.members if each.prompt.id in known]
    return [each for each in bench.truth.members if each.triggers]


def masks(truth: Truth) -> dict[str, Mask]:
    """The pixels that all trained pictures of a prompt share, by its id; none where the truth does not say them.

    Files count the prompts of the whole truth, whatever part of it was read.
    """
    folder = truth.folder / MASKS
    return read_masks(folder, read_prompts(truth.folder / PROMPTS)) if folder.is_dir() else {}


def refusal(bench: Bench, tried: Tried | None) -> str | None:
    """Why an explanation cannot be judged on a model; None where it can."""
    assert tried is not None
    asked = _asked(bench, tried)
    if not asked:
        lacking = f"regions (a folder {MASKS})" if tried.method.gives == "regions" else "triggers of any trained prompt"
        return f"the truth says no {lacking}"
    return refused_by(lambda: _explained(bench, tried, asked[0]))


def _explained(bench: Bench, tried: Tried, known: TruePrompt) -> None:
    explanation, trial = _explanation(bench, tried), bench.trial
    registry.checked(tried.method, registry.with_score(tried.method, explanation.parameters))
    trajectory = Trajectory(
        bench.model,
        [known.prompt.text],
        [trial.seed],
        num_inference_steps=trial.num_inference_steps,
        guidance_scale=trial.guidance_scale,
    )
    api.explain(trajectory, tried.given, **explanation.parameters)


def cell(bench: Bench, tried: Tried | None, folder: Path) -> Outcome:
    """An explanation of all prompts of which it is known what it should find, as a run, and how much it found."""
    assert tried is not None
    asked, has_regions = _asked(bench, tried), tried.method.gives == "regions"
    known_masks = masks(bench.truth) if has_regions else None
    prompts = [each.prompt for each in asked]
    summary = run_explanation(
        bench.model, prompts, folder, _explanation(bench, tried), masks=known_masks, batch=bench.batch
    )
    known, columns = _overlaps(folder, asked, known_masks) if known_masks else _triggers(folder, asked, bench)
    by_dose = ByDose(bench.truth, known)

    def statistics(places: Places) -> Mapping[Key, float]:
        means = {name: by_dose.means(places, values) for name, values in columns.items()}
        return {(name, g): v for name, own in means.items() for (kind, g), v in own.items() if kind == SHARE}

    own = figures(known, statistics, pictures(known), FORMS, seed=bench.trial.seed) if known else []
    cost = plain(EVALUATIONS, "", summary["network_evaluations"] / len(asked), len(asked), FORMS[EVALUATIONS])
    each = summary["seconds"] / len(asked)
    return Outcome({"": [*own, cost]}, {"": each}, summary["network_evaluations"], summary["seconds"])


def _triggers(folder: Path, asked: Sequence[TruePrompt], bench: Bench) -> tuple[list[TruePrompt], dict[str, Shares]]:
    """Of each prompt the share of its triggers on top, what chance gives words as long, and the difference."""
    rows = {row["id"]: row for row in read_rows(folder, ExplainRow) if row["status"] == "ok"}
    known = [each for each in asked if each.prompt.id in rows and _words(rows[each.prompt.id], each)[1].any()]
    rng = np.random.default_rng([bench.trial.seed, 7])
    found, chance = np.zeros(len(known)), np.zeros(len(known))
    for k, each in enumerate(known):
        words, own = _words(rows[each.prompt.id], each)
        found[k] = on_top(np.array([float(word["sum"] or 0) for word in words]), own)
        chance[k] = by_chance([word["last"] + 1 - word["first"] for word in words], own, rng)
    return known, {TRIGGERS: found, CHANCE: chance, ABOVE: found - chance}


def _words(row: ExplainRow, known: TruePrompt) -> tuple[list[Word], np.ndarray]:
    """The words of a prompt, marks aside, and which of them are its triggers."""
    words = [word for word in row["words"] if any(c.isalnum() for c in word["word"])]
    return words, np.array([word["word"].lower().removesuffix("'s") in known.triggers for word in words], bool)


def on_top(values: Shares, own: np.ndarray) -> float:
    """The share of some words that are among the highest, as many as they are; of equal values each is as likely."""
    count, limit = int(own.sum()), float(np.sort(values)[-int(own.sum())])
    above, level = values > limit, values == limit
    hits = own[above].sum() + (count - above.sum()) * own[level].mean()
    return float(hits / count)


def by_chance(lengths: Sequence[int], own: np.ndarray, rng: np.random.Generator) -> float:
    """The same of random values, one a token, whose sums favour words of many tokens as those of an explanation do."""
    sums = [[rng.random(length).sum() for length in lengths] for _ in range(DRAWS)]
    return float(np.mean([on_top(np.array(drawn), own) for drawn in sums]))


def _overlaps(
    folder: Path, asked: Sequence[TruePrompt], known_masks: Mapping[str, Mask]
) -> tuple[list[TruePrompt], dict[str, Shares]]:
    """Of each prompt the mean overlap of its maps with the truth, cut by Otsu's threshold, and that of a full mask."""
    by_prompt: dict[str, list[float]] = {}
    for row in read_rows(folder, RegionRow):
        if row["status"] == "ok" and (iou := row.get("iou")) is not None and math.isfinite(iou):
            by_prompt.setdefault(row["prompt_id"], []).append(float(iou))
    known = [each for each in asked if each.prompt.id in by_prompt]
    whole = np.array([float(known_masks[each.prompt.id].mean()) for each in known])
    return known, {IOU: np.array([float(np.mean(by_prompt[each.prompt.id])) for each in known]), WHOLE: whole}


SHEETS = (
    Sheet(
        "Trigger words found",
        "A trigger is a word that the captions of one trained picture alone have. Found is the share of a prompt's "
        "triggers among as many words of the highest sums; by chance is that of random values, one a token, so that "
        "long words win as often; above chance is the difference.",
        {TRIGGERS: "found,", CHANCE: "by chance,", ABOVE: "above chance,"},
    ),
    Sheet(
        "Regions",
        "Intersection over union of a map, cut by its own Otsu threshold, with the pixels that all trained pictures of "
        "the prompt share; of a mask of all pixels beside it.",
        {IOU: "", WHOLE: "all pixels,"},
    ),
    Sheet("Cost", "Network evaluations and seconds of a prompt.", {EVALUATIONS: "evaluations"}, has_seconds=True),
)


def names() -> list[str]:
    """All explanations."""
    return registry.names("explain")


def _found(name: str) -> registry.Method:
    return registry.get("explain", name)


EXPLAIN = Contest("explain", names, _found, refusal, cell, SHEETS)
