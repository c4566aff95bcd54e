"""Files of activation statistics: our own, and the .pt files of NeMo's code; nothing is unpickled."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.marks import save_with_header
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import whole

FORMAT = "mnemoscope neuron statistics 1"
Content = tuple[dict[str, Tensor], dict[str, Tensor], int | None, Json]  # mean, sd, count, about


def write(
    file: Path, mean: Mapping[str, Tensor], sd: Mapping[str, Tensor], count: int | None, about: Mapping[str, Any]
) -> None:
    """Safetensors with `mean/LAYER` and `sd/LAYER` in float64, what they are of in the metadata."""
    tensors = {
        f"{kind}/{k}": v.contiguous()
        for kind, tensors_of in (("mean", mean), ("sd", sd))
        for k, v in tensors_of.items()
    }
    metadata = {"format": FORMAT, "count": json.dumps(count), "about": json.dumps(dict(about))}
    with whole(file) as partial:
        save_with_header(tensors, partial, metadata)


def write_nemo(file: Path, mean: Mapping[str, Tensor], sd: Mapping[str, Tensor]) -> None:
    """The pair (means, standard deviations) of NeMo's first script in float32, one tensor a layer in each, as a .pt."""
    pair = ([v.float().contiguous() for v in mean.values()], [v.float().contiguous() for v in sd.values()])
    with whole(file) as partial:
        torch.save(pair, partial)


def write_activations(file: Path, values: Mapping[str, Tensor], about: Mapping[str, Any], *, nemo: bool) -> None:
    """Each prompt's activations, [prompts, neurons] by layer: safetensors, and as NeMo's list of matrices in a .pt."""
    with whole(file) as partial:
        save_with_header({k: v.contiguous() for k, v in values.items()}, partial, {"about": json.dumps(dict(about))})
    if nemo:
        with whole(file.with_suffix(".pt")) as partial:
            torch.save([v.contiguous() for v in values.values()], partial)


def read(file: Path, layers: Sequence[str]) -> Content:
    """Mean, standard deviation, count and origin; the layers of a .pt file, which names none, are `layers`."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}; make it with mnemoscope localize statistics.")
    return _nemo(file, layers) if file.suffix in (".pt", ".pth") else _own(file)


def _own(file: Path) -> Content:
    try:
        with safe_open(file, framework="pt") as f:
            metadata = f.metadata() or {}
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118  (not a dictionary)
        if metadata["format"] != FORMAT:
            raise ValueError(f"its format is {metadata['format']!r}")
        count, about = json.loads(metadata["count"]), json.loads(metadata["about"])
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise UsageError(
            f"{file} holds no neuron statistics ({e}); make it with mnemoscope localize statistics."
        ) from e
    mean, sd = ({k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(p)} for p in ("mean/", "sd/"))
    if mean.keys() != sd.keys() or any(mean[k].shape != sd[k].shape for k in mean):
        raise UsageError(f"{file} is damaged: its means and deviations are not of the same neurons; make it anew.")
    return mean, sd, count, about


def _nemo(file: Path, layers: Sequence[str]) -> Content:
    """The pair (means, standard deviations) of NeMo's first script, one tensor a layer in each."""
    try:
        pair = torch.load(file, map_location="cpu", weights_only=True)
        means, sds = ([torch.as_tensor(v).double() for v in part] for part in pair)
    except Exception as e:  # a file of another kind makes its reader raise nearly anything
        reason = str(e).partition("\n")[0][:120]
        raise UsageError(f"{file} is not a pair of lists of tensors, as NeMo's statistics are: {reason}") from e
    if not len(means) == len(sds) == len(layers) or any(m.shape != s.shape or m.dim() != 1 for m, s in zip(means, sds)):  # noqa: B905
        raise UsageError(f"{file} has {len(means)} layers, and {len(layers)} are looked at; compute statistics anew.")
    return dict(zip(layers, means, strict=True)), dict(zip(layers, sds, strict=True)), None, {"file": file.name}
