"""What a model is recognised by."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import nn

from mnemoscope.model.predictor import Predictor
from mnemoscope.run.reading import Json


def weights_hash(modules: Mapping[str, nn.Module]) -> str:
    """First 16 hex digits of a SHA-256 over all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for component, module in sorted(modules.items()):
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{component}.{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def description(model: Predictor, weights: str) -> Json:
    """Source, family, the hash of the weights, scheduler, dtype and latent shape of a model, as a run records them."""
    opened = model.opened
    config = {k: v for k, v in model.pipe.scheduler.config.items() if not k.startswith("_")}
    return {
        "source": model.source,
        "family": model.family.name,
        "weights": weights,
        "scheduler": type(model.pipe.scheduler).__name__,
        "scheduler_config": json.loads(json.dumps(config, default=str)),
        "prediction_type": model.prediction_type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "latent_shape": list(model.latent_shape),
        "size": list(model.size),
        **({"parts": opened.parts} if opened and opened.parts else {}),
        "warnings": list(opened.warnings) if opened else [],
        **({} if model.family.negative_prompt is None else {"negative_prompt": model.family.negative_prompt}),
    }
