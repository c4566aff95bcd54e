"""Work that kills the process that does it, in a module that workers can import."""

import os
import signal
from pathlib import Path

import torch

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.rows import AnyRow


def rows(model: Denoiser, marks: Path, prompts: list[Prompt]) -> list[AnyRow]:
    """A row for each prompt, with one network evaluation; what a prompt says happens to the process."""
    for prompt in prompts:
        mark = marks / prompt.id
        if prompt.text.startswith("dies") and ("always" in prompt.text or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt.text.startswith("large") and len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
    model.network_evaluations += len(prompts)
    return [{"id": p.id, "prompt": p.text, "status": "ok", "together": len(prompts)} for p in prompts]  # type: ignore
