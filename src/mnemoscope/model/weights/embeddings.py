"""Textual inversion: tokens with learnt vectors, added to a pipeline's tokenizers and text encoders."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.marks import read_header
from mnemoscope.model.weights.paths import meant
from mnemoscope.model.weights.reading import first_line, some
from mnemoscope.run.reading import Json

FILE = "learned_embeds.safetensors"
ALONE = "emb_params"  # the key of a file that does not name its token
PARTS = ("clip_l", "clip_g", "t5")  # the keys of a file that says whose its vectors are
ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def add_embedding(pipe: DiffusionPipeline, path: Path) -> Json:
    """Add the tokens of a file to the pipeline; what was added, as a run records it.

    The token is the one that the file names, or else the file's name. Raises `UsageError` unless all that the file
    holds is taken, by every text encoder of the pipeline, but for a T5 beside a CLIP, which may do without.
    """
    file = _file(path)
    tokens = _tokens(file, _encoders(pipe), _beside(pipe))
    for component, vectors in tokens.items():
        for token, vector in vectors.items():
            _add(pipe, file, component, token, vector)
    counts = {t: len(v) for t, v in next(iter(tokens.values())).items()}
    return {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16], "tokens": counts}


def _file(path: Path) -> Path:
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        near = meant(path) if not path.exists() else ""
        raise UsageError(f"{path} holds no embedding; --embedding expects a .safetensors file{near or '.'}")
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} is not a .safetensors file, and pickled weights are not opened; convert it first.")
    return file


def _encoders(pipe: DiffusionPipeline) -> list[str]:
    there = [name for name in ENCODERS if getattr(pipe, name, None) is not None]
    if not there or not hasattr(pipe, "load_textual_inversion"):
        raise UsageError(f"{type(pipe).__name__} takes no embeddings; leave out --embedding.")
    return there


def _beside(pipe: Any) -> str:
    """The key of vectors for a second text encoder: FLUX's is a T5."""
    return "t5" if "T5" in type(getattr(pipe, "text_encoder_2", None)).__name__ else "clip_g"


def _tokens(file: Path, encoders: list[str], second: str) -> dict[str, dict[str, Tensor]]:
    """Vectors of each token, for each text encoder."""
    from safetensors.torch import load_file

    read_header(file)  # raises for a damaged file
    held = {k: v if v.dim() == 2 else v[None] for k, v in load_file(file).items() if v.dim() in (1, 2)}
    if not held:
        raise UsageError(f"{file} holds no embedding: no key has one vector or several.")
    if set(held) & set(PARTS):
        parts = {"clip_l": "text_encoder", second: "text_encoder_2"}
        if strange := sorted(set(held) - set(parts)):
            raise UsageError(
                f"{file} was not loaded: {len(strange)} of its {len(held)} keys are not known, {some(strange)}."
            )
        vectors_of = {parts[key]: {file.stem: vectors} for key, vectors in held.items()}
    else:
        vectors_of = {"text_encoder": {file.stem if key == ALONE else key: vectors for key, vectors in held.items()}}
    optional = {"text_encoder_2"} if second == "t5" else set()
    if set(vectors_of) | optional != set(encoders) | optional:
        there, needed = " and ".join(sorted(vectors_of)), " and ".join(encoders)
        raise UsageError(f"{file} holds vectors for {there}, and this model has {needed}.")
    return vectors_of


def _add(pipe: Any, file: Path, component: str, token: str, vectors: Tensor) -> None:
    encoder, tokenizer = getattr(pipe, component), getattr(pipe, ENCODERS[component])
    width = encoder.get_input_embeddings().weight.shape[1]
    if vectors.shape[1] != width:
        raise UsageError(f"{file} holds vectors of {vectors.shape[1]} numbers, and the {component} needs {width}.")
    if not vectors.isfinite().all():
        raise UsageError(f"{file} holds numbers that are not finite; it is damaged.")
    try:
        pipe.load_textual_inversion({token: vectors}, token=token, tokenizer=tokenizer, text_encoder=encoder)
    except ValueError as e:
        raise UsageError(f"{file} could not be loaded as an embedding: {first_line(e)}") from e
    names = [token, *(f"{token}_{k}" for k in range(1, len(vectors)))]
    rows = encoder.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(names)]
    if not torch.equal(rows.cpu(), vectors.to(rows.dtype)):
        raise UsageError(f"The vectors of {file} did not arrive in the {component}.")
