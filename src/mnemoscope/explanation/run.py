"""Explanation over a list of prompts: rows with a value for each token and each word, or with a map of each image."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.attributions import read_layer6
from mnemoscope.explanation.masks import Mask
from mnemoscope.explanation.region_run import finished, region_rows
from mnemoscope.generation.run import row_id
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import content_of, own_seeds, samples
from mnemoscope.methods import by_name as api
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.families import Family
from mnemoscope.model.spans import Token
from mnemoscope.model.tokens import cut_off, cut_off_summary
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.model.words import content, merged
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import RegionRow
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import ExplainRow, Kind, KnownPrompt, PromptRow
from mnemoscope.run.run import Run


def run_explanation(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    explanation: Explanation,
    *,
    batch: int | str = "auto",
    overwrite: bool = False,
    content_id: str | None = None,
    masks: Mapping[str, Mask] | None = None,
) -> Json:
    """Explain all prompts into a run and return its summary; `content_id` identifies it in its prompts' place.

    `masks` are the true regions by prompt id, see `mnemoscope.explanation.masks`, for a method that gives regions.
    """
    explanation = replace(explanation, guidance_scale=model.family.guidance(explanation.guidance_scale))
    method = registry.get("explain", explanation.method)
    registry.checked(method, registry.with_score(method, explanation.parameters))
    settings = {
        **{k: v for k, v in vars(explanation).items() if k != "params"},
        "params": explanation.parameters,
        "content": content_id or content_of(prompts),
    }
    samples(prompts, explanation.seed, explanation.seeds)  # what is no seed is refused before the work
    size, about = Batch.of(model, batch, explanation.seeds, graph=True), method.about
    if method.gives == "regions":
        of_regions = _regions(model, explanation, masks)
        return _run(of_regions, model, prompts, out, settings, size, overwrite=overwrite, method=about)
    of_words = _words(model, explanation, masks)
    return _run(of_words, model, prompts, out, settings, size, overwrite=overwrite, method=about)


P = TypeVar("P", bound=PromptRow)


@dataclass(frozen=True)
class _Explained(Generic[P]):
    """What explanations of words and of regions do not share: the ids of a prompt's rows, the rows, what ends a run."""

    command: str
    kind: Kind[P]
    ids: Callable[[Prompt], list[str]]
    rows: Callable[[Path], Callable[[list[Prompt]], list[P]]]  # in a folder
    finish: Callable[[Path, list[P]], tuple[list[P], Json]]


def _run(
    explained: _Explained[P],
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    settings: Mapping[str, Any],
    size: Batch,
    **how: Any,
) -> Json:
    ids = {p.id: explained.ids(p) for p in prompts}
    known: dict[str, KnownPrompt] = {i: {"label": p.label, "kind": p.kind} for p in prompts for i in ids[p.id]}

    def plan(run: Run) -> list[Pass[P]]:
        return [Pass("explain", explained.rows(run.folder), lambda p: ids[p.id])]

    def finish(run: Run, rows: list[P]) -> tuple[list[P], Json]:
        rows, summary = explained.finish(run.folder, [cast(P, {**row, **known[row["id"]]}) for row in rows])
        return rows, {"prompts": len(ids), **summary}

    return prompt_run(out, explained.command, explained.kind, settings, [model], prompts, size, plan, finish, **how)


def _words(model: Denoiser, explanation: Explanation, masks: Mapping[str, Mask] | None) -> _Explained[ExplainRow]:
    if masks is not None:
        name, others = registry.get("explain", explanation.method).name, ", ".join(registry.explainers("regions"))
        raise UsageError(f"Masks were given, and {name} explains words; choose one of {others}.")
    content(model.family, [""])  # a model without tokens is refused before the work
    return _Explained(
        "explain",
        ExplainRow,
        lambda prompt: [prompt.id],
        lambda folder: partial(explain_rows, model, explanation=explanation),
        lambda folder, rows: (rows, {**cut_off_summary(rows)}),
    )


def _regions(model: Denoiser, explanation: Explanation, masks: Mapping[str, Mask] | None) -> _Explained[RegionRow]:
    return _Explained(
        "regions",
        RegionRow,
        lambda prompt: [row_id(*each) for each in samples([prompt], explanation.seed, explanation.seeds)],
        lambda folder: partial(region_rows, model, explanation=explanation, folder=folder),
        lambda folder, rows: finished(folder, rows, masks),
    )


def explain_rows(model: Denoiser, prompts: Sequence[Prompt], explanation: Explanation) -> list[ExplainRow]:
    """One row for each prompt of a batch; prompts of the same text and seeds share its values."""
    seeds = {p.id: tuple(own_seeds(p, explanation.seed, explanation.seeds)) for p in prompts}
    asked = list(dict.fromkeys((p.text, seeds[p.id]) for p in prompts))
    trajectory = Trajectory(
        model,
        [text for text, own in asked for _ in own],
        [seed for _, own in asked for seed in own],
        num_inference_steps=explanation.num_inference_steps,
        guidance_scale=explanation.guidance_scale,
    )
    values, timesteps = along(trajectory, explanation.method, **explanation.parameters)
    means = values.to("cpu", torch.float64).reshape(len(values), len(asked), explanation.seeds, -1).mean(2)
    texts = [text for text, _ in asked]
    tokens = dict(zip(texts, content(model.family, texts), strict=True))
    cut = dict(zip(texts, cut_off(model, texts), strict=True))
    rows: list[ExplainRow] = []
    for prompt in prompts:
        means_of = means[:, asked.index((prompt.text, seeds[prompt.id]))]
        if not means_of.isfinite().all():
            raise ValueError("the explanation is not finite")
        content_tokens = tokens[prompt.text]
        inner = means_of[:, [token.place for token in content_tokens]]
        scores = inner.mean(0).tolist()
        row: ExplainRow = {
            "id": prompt.id,
            "prompt": prompt.text,
            "tokens": [token.text for token in content_tokens],
            "scores": scores,
            "words": merged(prompt.text, content_tokens, scores),
            "special": special(model.family, prompt.text, means_of.mean(0).tolist(), content_tokens),
            "method": explanation.method,
            "params": explanation.parameters,
            "seeds": list(seeds[prompt.id]),
            "label": prompt.label,
            "kind": prompt.kind,
            "cut_off": cut[prompt.text],
            "status": "ok",
        }
        row |= {"timesteps": timesteps, "series": inner.tolist()} if len(timesteps) > 1 else {}
        rows.append(row)
    return rows


def along(trajectory: Trajectory, method: str, **parameters: Any) -> tuple[Tensor, list[float]]:
    """An explanation at each of its steps, [steps, samples, positions], and the timesteps; none where it has no steps.

    A method that looks at several steps says how in its `per_step`.
    """
    registered = registry.get("explain", method)
    if registered.per_step is None:
        return api.explain(trajectory, method, **parameters)[None], []
    given = registry.checked(registered, registry.with_score(registered, parameters))
    values = registered.per_step(trajectory, **given)
    steps = given.get("steps")
    if steps is None:
        steps = registry.usual_steps(given.get("score", registered.parameters["score"].default))
    return values, [float(trajectory.timesteps[i]) for i in trajectory.indices(steps)]


def special(family: Family, prompt: str, values: Sequence[float], tokens: Sequence[Token]) -> dict[str, float]:
    """Sums over the positions that are not of the prompt's own tokens, and the share of pooled vectors of the whole."""
    if family.has_ends:
        end = 1 + len(tokens)
        return {"bos": values[0], "eos": values[end], "padding": math.fsum(values[end + 1 :])}
    (names,), places = family.tokens([prompt]), {token.place for token in tokens}
    pooled = [v for v, name in zip(values, names, strict=True) if name in family.pooled]
    around = [v for k, v in enumerate(values) if k not in places and names[k] not in family.pooled]
    whole = math.fsum(map(abs, values))
    share = {"pooled_share": math.fsum(map(abs, pooled)) / whole} if pooled and whole else {}
    return {"other": math.fsum(around), **share}


def import_explanation(file: Path, out: Path | str, *, overwrite: bool = False) -> Json:
    """Make a run of layer6's attribution JSON, its pieces merged into words, and return its summary."""
    rows = read_layer6(file)
    about = {
        "name": file.stem,
        "summary": "Token attributions of another code.",
        "paper": "arXiv:2411.00113",
        "cost": "imported",
    }
    with Run(out, "explain", {"prompts": str(file)}, overwrite=overwrite, method=about) as run:
        run.replace_rows(rows)
        return run.finish(prompts=len(rows))
