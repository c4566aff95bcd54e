"""What a single-file checkpoint says about itself: marks among its keys, and the modelspec fields of its header."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.reading import first_line, read_config
from mnemoscope.run.reading import Json

PREDICTIONS = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}
LORA = re.compile(r"lora_(unet|te)|\.lora_|_lora\.|\.hada_|\.lokr_")


@dataclass(frozen=True)
class Marks:
    """What a checkpoint's file says of the model; None and False where it says nothing."""

    keys: tuple[str, ...]
    large: bool
    prediction_type: str | None = None
    zero_snr: bool = False
    size: tuple[int, int] | None = None  # height, width


def read_marks(file: Path) -> Marks:
    """The marks of a file; raises `UsageError` for a file that is no checkpoint, or that contradicts itself."""
    keys, header = read_header(file)
    refuse_other_files(file, keys)
    large = any(key.startswith("conditioner.embedders.1") for key in keys)
    architecture = str(header.get("modelspec.architecture", "")).lower()
    _check_architecture(file, architecture, large)
    if edm := [key for key in keys if key.startswith("edm_")]:
        raise UsageError(f"{file} is marked {edm[0]}: its noise levels are EDM's, which is not supported.")
    prediction_said = str(header.get("modelspec.prediction_type", "")).lower()
    if prediction_said and prediction_said not in PREDICTIONS:
        raise UsageError(f"{file} says that it predicts '{prediction_said}'; epsilon and v are supported.")
    prediction = PREDICTIONS.get(prediction_said)
    if "v_pred" in keys or architecture.endswith("-v"):
        if prediction == "epsilon":
            raise UsageError(f"{file} contradicts itself: it is marked as v-prediction, and its header says epsilon.")
        prediction = "v_prediction"
    size = _size(file, str(header.get("modelspec.resolution", "")))
    return Marks(tuple(keys), large, prediction, "ztsnr" in keys, size)


def read_header(file: Path) -> tuple[list[str], Json]:
    """Keys and header fields of a safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys()), dict(opened.metadata() or {})
    except (SafetensorError, OSError) as e:
        raise UsageError(f"{file} is not a readable safetensors file: {first_line(e)}") from e


def save_with_header(tensors: dict[str, Tensor], file: Path, header: Mapping[str, str]) -> None:
    """Write a safetensors file whose header fields stand in order, so that the same content is the same bytes."""
    data = save(tensors, metadata=dict(header))
    begin = 8 + int.from_bytes(data[:8], "little")
    fields = {**json.loads(data[8:begin]), "__metadata__": dict(sorted(header.items()))}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[begin:])


def refuse_other_files(file: Path, keys: Sequence[str]) -> None:
    """Raise `UsageError` for what is part of a model alone, with the option that takes it."""
    if any(key.startswith(("model.diffusion_model.", "first_stage_model.")) for key in keys):
        return
    if any(LORA.search(key) for key in keys):
        raise UsageError(f"{file} holds a LoRA and no model; give the model that it belongs to, and --lora {file}.")
    if set(keys) & {"emb_params", "clip_l", "clip_g"}:
        raise UsageError(f"{file} holds an embedding and no model; give the model, and --embedding {file}.")
    if any(key.startswith(("down_blocks.", "conv_in.")) for key in keys):
        raise UsageError(
            f"{file} holds a U-Net alone; give the pipeline that it belongs to, and --unet with its folder."
        )


def _check_architecture(file: Path, architecture: str, large: bool) -> None:
    if not architecture:
        return
    if "/lora" in architecture or "/textual-inversion" in architecture:
        raise UsageError(f"{file} says that it is a {architecture}, and holds a whole model; its header is wrong.")
    known = re.match(r"stable-diffusion-(xl|v1|v2)", architecture)
    if known is None:
        raise UsageError(
            f"{file} says that it is a {architecture}; single files of Stable Diffusion 1, 2 and XL are read."
        )
    if (known[1] == "xl") != large:
        kind = "Stable Diffusion XL" if large else "Stable Diffusion 1 or 2"
        raise UsageError(f"{file} says that it is a {architecture}, and its weights are named as those of {kind}.")


def _size(file: Path, text: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = re.fullmatch(r"\s*\(?(\d{1,5})\s*[xX,]\s*(\d{1,5})\)?\s*", text)
    if sides is None:
        raise UsageError(f"{file} gives its resolution as '{text[:60]}'; width x height, as 1024x1024, is expected.")
    return int(sides[2]), int(sides[1])  # modelspec says width x height


def check_given(file: Path, folder: Path, marks: Marks, size: tuple[int, int] | None) -> None:
    """Raise `UsageError` where a configuration that lies beside the file says otherwise than the file does."""
    scheduler = read_config(folder / "scheduler/scheduler_config.json")
    asked = {"prediction_type": marks.prediction_type, "rescale_betas_zero_snr": marks.zero_snr or None}
    for name, value in asked.items():
        if value is not None and scheduler.get(name, value) != value:
            setting = f"{name} {json.dumps(value)}"
            raise UsageError(
                f"{file} is marked {setting}, and {folder / 'scheduler/scheduler_config.json'} says "
                f"{json.dumps(scheduler[name])}; correct the one that is wrong."
            )
    named = read_config(folder / "model_index.json").get("_class_name", "")
    if named and ("XL" in named) != marks.large:
        raise UsageError(f"{file} holds {'an' if marks.large else 'no'} XL model, and {folder} configures a {named}.")
    given = _pixels(folder)
    if marks.size is not None and given not in (None, marks.size) and size is None:
        there, here = ("x".join(map(str, s)) for s in (marks.size, given or ()))
        raise UsageError(f"{file} says that it draws {there} (height x width), and {folder} {here}; choose by --size.")


def _pixels(folder: Path) -> tuple[int, int] | None:
    """Height and width in pixels that a configuration is for, where it says them."""
    sample = read_config(folder / "unet/config.json").get("sample_size")
    blocks = read_config(folder / "vae/config.json").get("block_out_channels")
    if not isinstance(blocks, list) or not isinstance(sample, int | list):
        return None
    height, width = (sample, sample) if isinstance(sample, int) else sample
    factor = 2 ** (len(blocks) - 1)
    return height * factor, width * factor
