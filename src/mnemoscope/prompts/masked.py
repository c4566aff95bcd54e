"""A masked language model of a local folder, from safetensors alone."""

from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError


def masked_language_model(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the network of a folder; raises `UsageError` for one that holds no such model."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    try:
        if not folder.is_dir():
            raise OSError("no such folder")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError, ImportError) as e:
        reason = str(e).partition("\n")[0][:200]
        raise UsageError(f"{folder} could not be loaded as a masked language model: {reason}") from e
    if tokenizer.mask_token is None:
        raise UsageError(f"The tokenizer of {folder} has no mask; give the folder of a masked language model.")
    return tokenizer, network
