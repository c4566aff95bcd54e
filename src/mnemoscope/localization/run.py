"""Localization over a list of prompts: one row a prompt, with the neurons that its memorization needs."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypedDict, cast

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.job.batching import Batch, Pass, content_hash, prompt_run
from mnemoscope.job.seeds import content_of, samples
from mnemoscope.localization.calibration import Prepared, prepare
from mnemoscope.localization.tables import named_layers, read_nemo
from mnemoscope.methods import by_name as api
from mnemoscope.model import ablation
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.pictures import open_source
from mnemoscope.pictures.counting import caption_counts
from mnemoscope.prompts.prompt import Prompt, Prompts
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import KnownPrompt, LocalizeRow
from mnemoscope.run.run import Run

COMMON = 20  # of the most frequent neurons, in the summary
NOT_ENOUGH = "No selection brought the similarity down to the threshold"


@dataclass(frozen=True)
class Localization:
    """What to compute for each prompt: a method with its parameters."""

    method: str = "neurons"
    params: Mapping[str, Any] | None = None

    @property
    def parameters(self) -> Json:
        return dict(self.params or {})


def run_localization(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    localization: Localization,
    *,
    negatives: Sequence[Prompt] = (),
    dedup: bool = False,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Locate all prompts' neurons into a run and return its summary.

    Ordinary prompts, as negatives, make the statistics and the threshold that the method takes and was not given.
    `dedup` looks at each text once, whatever its spaces.
    """
    method = registry.get("localize", localization.method)
    given = registry.checked(method, localization.parameters)
    ablation.layers(model)  # a model without neurons is refused before the work
    listed = Prompts.of(once_each(prompts) if dedup else prompts, prompts, negatives)
    _check_seeds(listed)
    settings = {
        "method": method.name,
        "dedup": dedup,
        "params": given,
        "content": content_of([*listed, *(replace(p, id=f"n-{p.id}") for p in negatives)]),
    }
    known: dict[str, _KnownUrl] = {p.id: {"label": p.label, "kind": p.kind, "url": _url(p)} for p in listed}
    ready = Prepared({})

    def plan(run: Run) -> list[Pass[LocalizeRow]]:
        nonlocal ready
        more = {"batch": batch} if "batch" in method.parameters else {}
        ready = prepare(run, model, [p.text for p in negatives], method, {**more, **given})
        return [Pass("localize", partial(locate_rows, model, method=localization.method, parameters=ready.parameters))]

    def finish(run: Run, rows: list[LocalizeRow]) -> tuple[list[LocalizeRow], Json]:
        kept: list[LocalizeRow] = [{**row, **known[row["id"]]} for row in rows]
        told = caption_summary(given.get("references"))
        return kept, {**summarised(model, kept, ready), **told, "left_out": len(prompts) - len(listed)}

    room = batch_size(model, given.get("batch", batch))
    size = Batch(1, room if batch != "auto" else 2 * room)
    return prompt_run(
        out,
        "localize",
        LocalizeRow,
        settings,
        [model],
        listed,
        size,
        plan,
        finish,
        overwrite=overwrite,
        method=method.about,
    )


class _KnownUrl(KnownPrompt):
    """What is known of a prompt, with where its picture is."""

    url: str | None


def _check_seeds(prompts: Sequence[Prompt]) -> None:
    """Raise `UsageError` for seeds of prompts that a method cannot begin from."""
    if several := next((p for p in prompts if len(p.seeds) > 1), None):
        raise UsageError(f"“{several.text[:60]}” has {len(several.seeds)} seeds of its own; give one, the first.")
    samples(prompts, 0, 1)


def caption_summary(references: object) -> Json:
    """How many of the training images that a method compares with have a caption, where it was given a source."""
    if not isinstance(references, str | Path):
        return {}
    source = open_source(references)
    return {"reference_captions": caption_counts([bool(picture.captions) for picture in source], source)}


class _Seeded(TypedDict, total=False):
    """The seed of a prompt that has one of its own."""

    seed: int


def locate_rows(
    model: Denoiser, prompts: Sequence[Prompt], method: str, parameters: Mapping[str, Any]
) -> list[LocalizeRow]:
    """One row for each prompt; a prompt with a seed of its own is located from it."""
    rows: list[LocalizeRow] = []
    name = registry.get("localize", method).name
    for own, some in groupby(prompts, lambda p: p.seeds):
        group, seed = list(some), _seeded(own)
        located = api.localize(model, [p.text for p in group], method, **{**parameters, **seed})
        rows += [
            {"id": p.id, **each.row(), **seed, "method": name, "status": "ok"}
            for p, each in zip(group, located, strict=True)
        ]
    for row in rows:
        if not all(math.isfinite(value) for value in (row["before"], row["after"]) if value is not None):
            raise ValueError(f"the {row['value']} is not finite: {row['before']}, then {row['after']}")
    return rows


def _seeded(own: Sequence[int]) -> _Seeded:
    return {"seed": own[0]} if own else {}


def once_each(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first prompt of each text, whatever its spaces."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(" ".join(prompt.text.split()), prompt)
    return list(first.values())


def summarised(model: Denoiser, rows: Sequence[LocalizeRow], ready: Prepared) -> Json:
    """Counts, the most frequent neurons, and what the numbers hold for."""
    done = [row for row in rows if row["status"] == "ok"]
    located = [row for row in done if row["count"]]
    each = Counter((name, i) for row in located for name, indices in row["neurons"].items() for i in indices)
    which = cast(ablation.Layers, next((row["layers"] for row in done), "seven"))
    missed = sum(row.get("is_enough") is False for row in done)
    notes = [f"{NOT_ENOUGH} for {missed} of {len(done)} prompts; try --layers all."] if missed else []
    return {
        "prompts": len(rows),
        "located": len(located),
        "layer_names": list(ablation.layers(model, which)),
        "most_frequent": [{"layer": n, "neuron": i, "prompts": count} for (n, i), count in each.most_common(COMMON)],
        "notes": notes,
        **ready.summary,
    }


def import_localization(
    file: Path, out: Path | str, *, prompts: Sequence[Prompt] = (), overwrite: bool = False
) -> Json:
    """Make a run of NeMo's table of neurons and return its summary.

    The table says nothing of a prompt's kind: `prompts`, as of the prompt file it was made from, say it, by their texts
    whatever their spaces, in order where a text comes again. Raises `UsageError` where they know none of its prompts.
    """
    rows = read_nemo(file)
    about = {
        "name": file.stem,
        "summary": "Neurons that another code found.",
        "paper": "arXiv:2406.02366",
        "cost": "imported",
    }
    joined, unknown = _joined(rows, prompts) if prompts else (rows, None)
    if unknown == len(rows):
        raise UsageError(f"None of the {len(rows)} prompts of {file} is among those given; give its own prompt file.")
    settings = {"prompts": str(file), **({"kinds": content_hash([p.id for p in prompts])} if prompts else {})}
    with Run(out, "localize", settings, overwrite=overwrite, method=about) as run:
        run.replace_rows(joined)
        counts = {"prompts": len(rows), "located": sum(bool(row["count"]) for row in rows)}
        layers = {"layer_names": names} if (names := named_layers(file)) else {}
        return run.finish(**counts, **layers, **({} if unknown is None else {"prompts_not_given": unknown}))


def _joined(rows: Sequence[LocalizeRow], prompts: Sequence[Prompt]) -> tuple[list[LocalizeRow], int]:
    """Rows with the kind and label of their prompts, and how many have no prompt."""
    by_text: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_text.setdefault(" ".join(prompt.text.split()), []).append(prompt)
    joined, unknown = [], 0
    for row in rows:
        same_text = by_text.get(" ".join(row["prompt"].split()), [])
        joined.append({**row, "label": same_text[0].label, "kind": same_text[0].kind} if same_text else row)
        unknown += not same_text
        if len(same_text) > 1:  # of several of one text each has its row
            del same_text[0]
    return joined, unknown


def _url(prompt: Prompt) -> str | None:
    value = next((v for k, v in prompt.source.items() if k.casefold() == "url"), None)
    return value if isinstance(value, str) and value else None
