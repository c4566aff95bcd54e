"""Rewriting the prompts of an explanation into a run: choose words, rewrite, score again."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from mnemoscope.errors import UsageError
from mnemoscope.job.attempts import Counted, counted
from mnemoscope.job.batching import content_hash, in_order
from mnemoscope.rewriting.choice import Choice, choose, draw_seed
from mnemoscope.rewriting.offline import Rewriter
from mnemoscope.rewriting.outcome import selected, summarised
from mnemoscope.rewriting.passage import NotRewritten, passage
from mnemoscope.rewriting.rescoring import Scorer
from mnemoscope.run import runner
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import ChosenWord, ExplainRow, RewriteRow
from mnemoscope.run.run import Run, read_json, read_rows


def run_rewriting(
    explained: Path,
    out: Path,
    rewriter: Rewriter,
    choice: Choice,
    *,
    scorer: Scorer | None = None,
    overwrite: bool = False,
) -> Json:
    """Rewrite every prompt of an explanation `rewrites` times at each level, into a run, and return its summary.

    With a `scorer` each prompt and its rewrites are scored. What cannot be rewritten becomes a failed row with the
    reason; prompts whose explanation failed are failed rows too. Neither rows nor scores depend on the other prompts.
    """
    rows = explanation(explained)[1]
    settings = {
        **{**vars(choice), "levels": list(choice.levels)},
        "rewriter": rewriter.name,
        **({"score": scorer.detection.method, "params": scorer.detection.parameters} if scorer else {"score": None}),
        "conditions": scorer.conditions if scorer else None,
        "content": content_hash(json.dumps([r["id"], r["prompt"], r.get("words")]) for r in rows),
    }
    about = scorer.model.describe() if scorer else None
    with Run(out, "rewrite", settings, overwrite=overwrite, model=about) as run, Progress(transient=True) as bar:
        missing = (
            _rewritten(run, row, rewriter, choice)
            for row in bar.track(rows, description="rewrite")
            if not all(i in run.done for i in _ids(row, choice))
        )
        for found in runner.each(partial(_scored, scorer), missing, _lost):
            run.append(found.made, evaluations=found.evaluations, seconds=found.seconds)
        limit = scorer.threshold if scorer else None
        run.replace_rows(selected(in_order(run.rows(RewriteRow), [i for r in rows for i in _ids(r, choice)]), limit))
        return run.finish(**summarised(run.rows(RewriteRow), rewriter.name, limit))


def explanation(folder: Path) -> tuple[Json, list[ExplainRow]]:
    """Record and rows of an `explain` run; raises `UsageError` for any other folder."""
    record = read_json(folder / "run.json")
    if record.get("command") != "explain":
        given = record.get("command")
        raise UsageError(f"{folder} is a run of {given!r}; give the folder of a mnemoscope explain run.")
    if not (rows := read_rows(folder, ExplainRow)):
        raise UsageError(f"{folder} holds no rows; run mnemoscope explain to its end.")
    return record, rows


def _ids(row: ExplainRow, choice: Choice) -> list[str]:
    if row["status"] != "ok":
        return [f"{row['id']}-0-0"]
    return [f"{row['id']}-{level}-{k}" for level in choice.levels for k in range(choice.rewrites)]


@dataclass(frozen=True)
class _Rewritten:
    """The rows of a prompt, still without scores, the seeds that they are scored from, and the seconds they took."""

    rows: list[RewriteRow]
    seeds: Sequence[int]
    seconds: float


def _rewritten(run: Run, row: ExplainRow, rewriter: Rewriter, choice: Choice) -> _Rewritten:
    began = time.perf_counter()
    if row["status"] == "ok":
        draws = [(level, k) for level in choice.levels for k in range(choice.rewrites)]
        missing = [draw for draw, i in zip(draws, _ids(row, choice), strict=True) if i not in run.done]
        made = [rewritten(row, level, k, rewriter, choice) for level, k in missing]
    else:
        reason = f"the explanation of this prompt failed: {row.get('error')}"
        (only,) = _ids(row, choice)
        asked = {"id": only, "prompt_id": row["id"], "prompt": row["prompt"]}
        made = [cast(RewriteRow, {**asked, "status": "failed", "error": reason})]
    return _Rewritten(made, row.get("seeds") or (), time.perf_counter() - began)


def _scored(scorer: Scorer | None, of: _Rewritten) -> Counted[list[RewriteRow]]:
    if scorer is None or all(row["status"] != "ok" for row in of.rows):
        return Counted(of.rows, 0, of.seconds)
    found = counted(scorer.model, lambda rows: scored(rows, scorer, of.seeds), of.rows)
    return replace(found, seconds=found.seconds + of.seconds)


def _lost(of: _Rewritten, why: str) -> Counted[list[RewriteRow]]:
    return Counted(_failed(of.rows, why), 0, of.seconds)


def rewritten(row: ExplainRow, level: int, k: int, rewriter: Rewriter, choice: Choice) -> RewriteRow:
    """One rewrite of an explained prompt as a row, without scores."""
    chosen: list[ChosenWord] = []
    made: RewriteRow = {
        "id": f"{row['id']}-{level}-{k}",
        "prompt_id": row["id"],
        "prompt": row["prompt"],
        "level": level,
        "k": k,
        "chosen": chosen,
        "rewrite": "",
        "rewriter": rewriter.name,
        "label": row.get("label"),
        "kind": row.get("kind"),
        "status": "ok",
    }
    try:
        places = choose(row, level, k, choice)
        words = [w["word"] for w in row["words"]]
        chosen += [
            {"word": w["word"], "first": w["first"], "last": w["last"]} for w in (row["words"][i] for i in places)
        ]
        text = rewriter(passage(row["prompt"], words, places), draw_seed(choice.seed, row["prompt"], level, k))
    except NotRewritten as e:
        return cast(RewriteRow, {**made, "rewrite": None, "status": "failed", "error": str(e)})
    return {**made, "rewrite": text}


def scored(rows: list[RewriteRow], scorer: Scorer, seeds: Sequence[int] = ()) -> list[RewriteRow]:
    """The rows of one prompt with its score before and after each rewrite; all fail where the prompt's score does."""
    good = [r for r in rows if r["status"] == "ok"]
    try:
        scores = scorer([text for r in good for text in (r["prompt"], r["rewrite"])], seeds)
    except (UsageError, OSError):
        raise
    except Exception as e:  # whatever a network can raise for one prompt must not lose the others
        torch.cuda.empty_cache()
        reason = f"{type(e).__name__}: {e}".partition("\n")[0][:300]
        return _failed(rows, reason)
    return [
        {**r, "score_before": scores[r["prompt"]], "score_after": scores[r["rewrite"]]} if r["status"] == "ok" else r
        for r in rows
    ]


def _failed(rows: Sequence[RewriteRow], reason: str) -> list[RewriteRow]:
    return [r if r["status"] != "ok" else {**r, "status": "failed", "error": reason} for r in rows]
