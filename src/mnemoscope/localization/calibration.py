"""What ordinary prompts say before memorized ones are looked at: usual activations, usual similarities of seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.job.attempts import counted
from mnemoscope.job.batching import Batch, Pass, chunks, content_hash, per_batch, prompt_run
from mnemoscope.localization import statistics
from mnemoscope.localization.differences import Setting
from mnemoscope.localization.statistics_files import write_activations, write_nemo
from mnemoscope.localization.thresholds import calibrated, pairwise, resolved
from mnemoscope.model.ablation import Layers
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.registry import Method, Parameters
from mnemoscope.run import runner
from mnemoscope.run.reading import ADVICE, Json, is_number
from mnemoscope.run.rows import ThresholdRow
from mnemoscope.run.run import Run, read_json, write_json
from mnemoscope.run.writing import clean_beside

STATISTICS, ACTIVATIONS, CALIBRATION = "statistics.safetensors", "activations.safetensors", "calibration.json"
SETTING = ("seeds", "seed", "num_inference_steps", "guidance_scale", "scales", "compat")


@dataclass(frozen=True)
class Prepared:
    """Parameters with what ordinary prompts made of them, and what there is to say of it."""

    parameters: Parameters
    summary: Json = field(default_factory=dict)


def prepare(run: Run, model: Denoiser, negatives: Sequence[str], method: Method, given: Mapping[str, Any]) -> Prepared:
    """Statistics and threshold of ordinary prompts, kept in the run, for a method that takes them and has none.

    Raises `UsageError` for what the method itself would refuse at its first prompt.
    """
    if "statistics" not in method.parameters:
        return Prepared(dict(given))
    usual = {k: given.get(k, method.parameters[k].default) for k in (*SETTING, "layers", "initial_theta")}
    setting = Setting(**{k: usual[k] for k in SETTING})
    ready, summary = dict(given), {}
    if usual["initial_theta"] is not None:
        if negatives and "statistics" not in given:
            _measured(run, model, negatives, usual["layers"])
            ready["statistics"] = run.folder / STATISTICS
        ready["statistics"] = statistics.given(model, ready.get("statistics"), usual["layers"])
        summary["statistics"] = dict(ready["statistics"].about)
    if negatives and "threshold" not in given:
        summary |= _calibration(run, model, negatives, setting, batch_size(model, given.get("batch", "auto")))
        ready["threshold"] = summary["threshold"]
    ready["threshold"] = resolved(ready.get("threshold"), model, setting)
    summary |= {"threshold": ready["threshold"], "conditions": setting.conditions(model)}
    return Prepared(ready, {**summary, "similarity": str(setting.likeness(model.latent_shape))})


def setting_of(given: Mapping[str, Any]) -> Setting:
    """How noise differences are taken, from parameters of the method; raises `UsageError` for one that it has not."""
    method = registry.get("localize", "neurons")
    if strange := [name for name in given if name not in SETTING]:
        raise UsageError(f"A threshold does not depend on '{strange[0]}'; it depends on {', '.join(SETTING)}.")
    return Setting(**registry.checked(method, dict(given)))


def _measured(run: Run, model: Denoiser, prompts: Sequence[str], which: Layers) -> None:
    if not (file := run.folder / STATISTICS).is_file():
        statistics.save(statistics.measure(model, prompts, which), file)


def _calibration(run: Run, model: Denoiser, prompts: Sequence[str], setting: Setting, batch: int) -> Json:
    if (file := run.folder / CALIBRATION).is_file():
        calibration = read_json(file)
        if not is_number(calibration.get("threshold")):
            raise UsageError(f"{file} holds no threshold; {ADVICE}")
        return calibration
    pairs = partial(counted, model, partial(pairwise, model, setting=setting))
    parts = list(runner.each(pairs, chunks(prompts, per_batch(batch, setting.seeds))))
    calibration = calibrated([similarities for part in parts for similarities in part.made], setting.conditions(model))
    spent, seconds = sum(part.evaluations for part in parts), sum(part.seconds for part in parts)
    run.append([], evaluations=spent, seconds=seconds, part="calibration")
    write_json(file, calibration)
    return calibration


def run_statistics(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path,
    which: Layers = "seven",
    *,
    nemo: bool = False,
    overwrite: bool = False,
) -> statistics.Statistics:
    """Statistics of a prompt list into a file, or into a folder; goes on where an earlier one was interrupted.

    `nemo` writes NeMo's .pt beside it. Raises `UsageError` for a file that holds anything else, unless `overwrite`.
    """
    measured = _statistics(model, prompts, out, which, overwrite)
    if nemo:
        write_nemo(_file(out, STATISTICS).with_suffix(".pt"), measured.mean, measured.sd)
    return measured


def run_activations(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path,
    which: Layers = "seven",
    *,
    nemo: bool = False,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Every prompt's activations into a file, or into a folder, in place of their statistics; prompts and neurons.

    `nemo` writes NeMo's list of matrices beside it as a .pt. Raises `UsageError` for a file that is there, unless
    `overwrite`.
    """
    file, texts = _file(out, ACTIVATIONS), [p.text for p in prompts]
    if file.exists() and not overwrite:
        raise UsageError(f"{file} is there already; use --overwrite or another --out.")
    values = statistics.raw(model, texts, which)
    write_activations(file, values, statistics.described(model, texts, which), nemo=nemo)
    return len(texts), sum(v.shape[1] for v in values.values())


def _file(out: Path, name: str) -> Path:
    return out if out.suffix == ".safetensors" else out / name


def _statistics(
    model: Denoiser, prompts: Sequence[Prompt], out: Path, which: Layers, overwrite: bool
) -> statistics.Statistics:
    file = _file(out, STATISTICS)
    texts = [p.text for p in prompts]
    clean_beside(file)
    begun = None
    if file.exists() and not overwrite:
        about = statistics.described(model, texts, which)
        begun = statistics.begun(file, about)
        if (begun.count or 0) >= len(texts):
            return begun
    return statistics.measure(model, texts, which, begun=begun, keep=lambda measured: statistics.save(measured, file))


def run_threshold(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path | str,
    setting: Setting,
    *,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """The threshold of ordinary prompts' similarities into a run, one row a prompt, and its summary."""
    setting.noise(model)  # too few seeds are refused before the work
    settings = {**vars(setting), "content": content_hash([p.id for p in prompts])}

    def finish(run: Run, rows: list[ThresholdRow]) -> tuple[list[ThresholdRow], Json]:
        done = [row["similarities"] for row in rows if row["status"] == "ok"]
        if not done:
            raise UsageError(f"No prompt of {run.folder} could be computed; see error in its rows.jsonl.")
        about = {"similarity": str(setting.likeness(model.latent_shape))}
        return rows, {**calibrated(done, setting.conditions(model)), **about}

    size, plan = Batch.of(model, batch, setting.seeds), [Pass("threshold", partial(threshold_rows, model, setting))]
    return prompt_run(
        out, "threshold", ThresholdRow, settings, [model], prompts, size, lambda run: plan, finish, overwrite=overwrite
    )


def threshold_rows(model: Denoiser, setting: Setting, prompts: Sequence[Prompt]) -> list[ThresholdRow]:
    """One row for each prompt of a batch, with how alike every two seeds are."""
    pairs = zip(prompts, pairwise(model, [p.text for p in prompts], setting), strict=True)
    return [
        {"id": p.id, "prompt": p.text, "similarities": similarities, "max": max(similarities), "status": "ok"}
        for p, similarities in pairs
    ]
