"""A LoRA with the channels of its updates damped that leave the base weights' principal subspace, as a run."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.layer_names import Layers
from mnemoscope.model.weights.lora import placed
from mnemoscope.model.weights.lora_file import FILES, LoraFile, Update, lora_files
from mnemoscope.model.weights.marks import read_header, save_with_header
from mnemoscope.repair.channels import alignments, channels_of, damped, principal_subspace
from mnemoscope.run.image_rows import RepairRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.writing import whole

NOTHING_KEPT = "Every channel was damped: of the fine-tune only what the factor leaves is left."


@dataclass(frozen=True)
class Repair:
    """Which channels are damped, and how much.

    The base weight's principal subspace holds `energy` of its squared norm; a channel whose alignment with it is below
    `least_alignment` is multiplied by `factor`. Raises `UsageError` for numbers out of range.
    """

    energy: float = 0.9
    least_alignment: float = 0.5
    factor: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise UsageError(f"--{name} is {value:g}; give a number from 0 to 1.")


def run_repair(model: Denoiser, lora: Path, out: Path | str, repair: Repair, *, overwrite: bool = False) -> Json:
    """Write the repaired LoRA as `lora/` of a run, with a row for each layer; returns the summary.

    The file has the keys, dtypes, alphas and header of the one that was given: what reads that reads this. `model` is
    the one that the LoRA was trained on, without it. Raises `UsageError` for updates that have no two factors (LoHa,
    LoKr, whole differences), and for what is no LoRA of this model. Described in words by arXiv:2605.10439.
    """
    (file, *others) = lora_files(lora)
    if others:
        raise UsageError(f"{lora} holds adapters of {len(others) + 1} components; give the file of one.")
    settings = {**asdict(repair), "lora": str(lora)}
    with Run(out, "repair", settings, overwrite=overwrite, model=model.describe()) as run:
        found = repaired(model, file, repair)
        _write(file, {key: value for _, tensors in found for key, value in tensors.items()}, run.folder / "lora")
        rows = [row for row, _ in found]
        run.replace_rows(rows)
        return run.finish(**summary(rows))


@torch.no_grad()
def repaired(model: Denoiser, file: LoraFile, repair: Repair) -> list[tuple[RepairRow, dict[str, Tensor]]]:
    """Of each layer its row, and its tensors that change by their keys in the file."""
    places = list(placed(Layers(model.pipe), file))
    if other := next((update for update, *_ in places if update.kind != "lora"), None):
        raise UsageError(
            f"{file.file} holds a {other.kind} update of {other.stem}, which has no two factors; a repair takes LoRAs."
        )
    with Progress(transient=True) as bar:
        return [_repaired(update, f"{c}.{layer}", module, repair) for update, c, layer, module in bar.track(places)]


def _repaired(update: Update, name: str, module: Any, repair: Repair) -> tuple[RepairRow, dict[str, Tensor]]:
    up, right = update.tensors["up"], _right(update)
    weight = module.weight.detach().cpu().flatten(1)
    base, channels = principal_subspace(weight, repair.energy), channels_of(up.flatten(1), right)
    aligned = alignments(channels, base)
    outside = aligned < repair.least_alignment
    scale = torch.where(outside, repair.factor, 1.0)
    row: RepairRow = {
        "id": name,
        "rank": len(aligned),
        "damped": int(outside.sum()),
        "subspace": base.left.shape[1],
        "alignments": aligned.tolist(),
        "values": channels.values.tolist(),
        "status": "ok",
        "norm_before": float(channels.values.norm()),
        "norm_after": float((channels.values * scale).norm()),
    }
    made = damped(up.flatten(1), channels.left[:, outside], repair.factor)
    return row, {update.key("up"): made.reshape(up.shape)} if outside.any() else {}


def _right(update: Update) -> Tensor:
    """What an update multiplies by its left factor, as a matrix: of a convolution in three factors, the last two."""
    down = update.tensors["down"].float()
    if "mid" not in update.tensors:
        return down.flatten(1)
    return torch.einsum("rshw,si->rihw", update.tensors["mid"].float(), down.flatten(1)).flatten(1)


def summary(rows: list[RepairRow]) -> Json:
    """Layers and channels, how many were damped, and which share of the update's norm is left."""
    before = sum(row["norm_before"] ** 2 for row in rows) ** 0.5
    after = sum(row["norm_after"] ** 2 for row in rows) ** 0.5
    counts = {"layers": len(rows), "channels": sum(r["rank"] for r in rows), "damped": sum(r["damped"] for r in rows)}
    found = {**counts, "norm_before": before, "norm_after": after, "norm_kept": after / before if before else None}
    nothing = bool(rows) and counts["damped"] == counts["channels"]
    return {**found, "notes": [NOTHING_KEPT] if nothing else []}


def _write(file: LoraFile, changed: dict[str, Tensor], folder: Path) -> None:
    """The tensors of a file, some of them changed, under its keys and its header."""
    from safetensors.torch import load_file

    _, header = read_header(file.file)
    tensors = {**load_file(file.file), **{key: value.contiguous() for key, value in changed.items()}}
    with whole(folder) as partial:
        partial.mkdir(parents=True, exist_ok=True)
        save_with_header(tensors, partial / FILES[0], header)
        for beside in _settings(file):
            (partial / beside.name).write_bytes(beside.read_bytes())


def _settings(file: LoraFile) -> Iterator[Path]:
    """The configuration that lies beside a PEFT adapter, which says what scales it."""
    from mnemoscope.model.weights.lora_file import ADAPTER

    if (file.file.parent / ADAPTER).is_file():
        yield file.file.parent / ADAPTER
