"""What a training gives: a pipeline, or a LoRA."""

from contextlib import nullcontext
from pathlib import Path

from diffusers import DiffusionPipeline

from mnemoscope.run.writing import whole
from mnemoscope.training import adapters
from mnemoscope.training.state import Training


def export(training: Training, folder: Path) -> Path:
    """Write `pipeline/`, as diffusers saves one, or `lora/`, with the weights of the first average if there is one."""
    return export_at(training, folder / ("lora" if training.options.train == "lora" else "pipeline"))


def export_at(training: Training, place: Path) -> Path:
    """Write what the training gives at this step into a folder, the whole pipeline or the LoRA."""
    is_lora, averages = training.options.train == "lora", training.averages
    settled(training.nets.pipe)
    with averages.applied(averages.decays[0]) if averages.decays else nullcontext(), whole(place) as partial:
        if is_lora:
            adapters.write(training.nets.pipe, partial)
        else:
            training.nets.pipe.save_pretrained(partial)
    return place


def settled(pipe: DiffusionPipeline) -> None:
    """Have tokenizers forget how they last cut and padded: they save that with themselves, and it depends on the past.

    A training that drew previews and one that went on after its last one would otherwise differ by a file.
    """
    for part in pipe.components.values():
        if (backend := getattr(part, "backend_tokenizer", None)) is not None:
            backend.no_padding()
            backend.no_truncation()
