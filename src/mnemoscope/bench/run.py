"""A bench: each method on each model in a run of its own, and all of them side by side."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mnemoscope.bench.cell import Bench, Contest, Trial, Tried
from mnemoscope.bench.tables import markdown, tables
from mnemoscope.bench.truth import Truth
from mnemoscope.errors import UsageError
from mnemoscope.job.seeds import content_of
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.bench_rows import BenchRow
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.writing import write_whole

CELLS = "cells"  # folder of the runs of all methods
Load = Callable[[str], Denoiser]


def run_bench(
    contest: Contest,
    models: Sequence[str],
    out: Path | str,
    trial: Trial,
    load: Load,
    *,
    methods: Sequence[str] = (),
    truth: Path | None = None,
    limit: int | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Hold methods against the truth of each model and return the summary with the tables; no methods are all.

    Each method on each model is a run of its own under `cells`, and goes on where it was. A folder that has a bench
    takes further methods and models: their rows stand beside those that are there. A method that a model cannot take
    has a row that says why. `limit` is of the prompts of each kind and number of views.
    """
    known = {name: Truth.of(source, truth, limit) for name, source in labels(models).items()}
    chosen = _named([Tried(name, contest.found(name)) for name in methods or contest.names()])
    settings = {**asdict(trial), "limit": limit, "truth": str(truth) if truth else None}
    with Run(out, f"bench-{contest.name}", settings, overwrite=overwrite) as run:
        for name, source in labels(models).items():
            bench = Bench(load(source), known[name], run.folder / CELLS / name, trial, batch)
            for title, tried in {**dict.fromkeys(contest.beside), **chosen}.items():
                _one(run, contest, bench, name, title, tried)
        return _finish(run, contest, known)


def labels(models: Sequence[str]) -> dict[str, str]:
    """Models by what tables and folders call them. Raises `UsageError` for none, and for two of one name."""
    named = {re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.") or "model": model for model in models}
    if not models or len(named) < len(models):
        raise UsageError(f"{', '.join(models) or 'No model'} was given; give models whose folders differ in name.")
    return named


def _named(methods: Sequence[Tried]) -> dict[str, Tried]:
    named = {each.name: each for each in methods}
    if len(named) < len(methods):
        raise UsageError(f"A method was given twice ({', '.join(m.name for m in methods)}); give each once.")
    return named


def _one(run: Run, contest: Contest, bench: Bench, model: str, title: str, tried: Tried | None) -> None:
    """The rows of a method on a model, unless they are there."""
    key = f"{model}/{title}"
    own = [i for i in run.done if i == key or i.startswith(f"{key}/")]
    if run.is_whole(own):
        return _same(run, own, tried)
    folder = bench.folder / title
    why = None if (folder / "run.json").exists() else contest.refusal(bench, tried)
    if why is not None:
        return run.append([_row(key, model, title, left_out=why)])
    found = contest.cell(bench, tried, folder)
    about = {"cell": f"{CELLS}/{key}", **_origin(tried)}
    rows = [
        _row(f"{key}/{at}" if at else key, model, title, figures=own, at=at, seconds=found.each[at], **about)
        for at, own in found.figures.items()
    ]
    run.append(rows, evaluations=found.evaluations, seconds=found.seconds)


def _origin(tried: Tried | None) -> dict[str, object]:
    """Where a method from outside came from."""
    return {"origin": dict(tried.method.origin)} if tried and tried.method.origin else {}


def _same(run: Run, own: Sequence[str], tried: Tried | None) -> None:
    """Raise `UsageError` where rows are of another content of a method from outside than the one that is given."""
    before = next(row.get("origin") for row in run.rows(BenchRow) if row["id"] in own)
    if before != _origin(tried).get("origin"):
        named = tried.given if tried else ""
        raise UsageError(f"{named} is not what the rows of {run.folder} are of; rename it, or give another --out.")


def _row(key: str, model: str, method: str, **more: object) -> Mapping[str, object]:
    return {"id": key, "status": "ok", "model": model, "method": method, "figures": [], **more}


def _finish(run: Run, contest: Contest, known: Mapping[str, Truth]) -> Json:
    rows = sorted(run.rows(BenchRow), key=_order(run.rows(BenchRow), contest))
    run.replace_rows(rows)
    notes = list(dict.fromkeys(note for truth in known.values() for note in [*truth.notes, *contest.notes(truth)]))
    notes += list(_limits(run.record["settings"]["limit"]))
    made = tables(contest.completed(rows, run.folder), contest.sheets)
    write_whole(run.folder / "table.md", markdown(f"Bench: {contest.name}", made, notes))
    about = {name: {"content": content_of(truth.prompts), "prompts": len(truth.known)} for name, truth in known.items()}
    return run.finish(tables=made, truths=about, notes=notes)


def _order(rows: Sequence[BenchRow], contest: Contest) -> Callable[[BenchRow], tuple[int, bool, int]]:
    """Rows of a model together, what methods are held against first, and points of a method in their order."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    return lambda row: (
        models.index(row["model"]),
        row["method"] not in contest.beside,
        methods.index(row["method"]),
    )


def _limits(limit: int | None) -> Iterator[str]:
    if limit is not None:
        yield f"At most {limit} prompts of each kind and number of views were read (--limit), for a quick look."
