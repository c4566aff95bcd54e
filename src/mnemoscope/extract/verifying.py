"""A list of hits drawn again: which of them hold for a model."""

from collections.abc import Sequence
from dataclasses import replace

from mnemoscope.extract.drawing import draw_rows
from mnemoscope.extract.settings import Extraction
from mnemoscope.features import descriptor
from mnemoscope.job.batching import Batch
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.fields import made
from mnemoscope.run.reading import Json


def verify_hits(model: Denoiser, hits: Sequence[Json], *, batch: int | str = "auto") -> list[Json]:
    """For each hit of a list: whether it holds, its images alike now and in the list, and the list's bound of distance.

    Images are drawn from the list's own seeds with its settings and compared as they were; a hit holds if as many are
    alike as the list asks for. `same_model` says whether the weights are those of the list. Raises `UsageError` for a
    list whose settings are none.
    """
    return [_verified(model, hit, batch) for hit in hits]


def _verified(model: Denoiser, hit: Json, batch: int | str) -> Json:
    extraction = made(Extraction, "drawn_with", hit["drawn_with"]).checked()
    prompt = replace(as_prompts([hit["prompt"]])[0], seeds=tuple(hit["seeds"]))
    with model.bounded(Batch.of(model, batch, extraction.images).at_once):
        (row,) = draw_rows(model, None, extraction, [prompt], descriptor=descriptor("pixels"))
    return {
        "prompt": prompt.text,
        "holds": row["hit"],
        "alike": row["alike"],
        "alike_then": hit.get("alike"),
        "distances": row["distances"],
        "below": extraction.below,
        "same_model": hit["weights_hash"] == model.weights_hash,
    }
