"""A detector's scores of prompts and of their rewrites, under the conditions that the explanation was made with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.detection.scoring import Detection, detect_rows
from mnemoscope.job.batching import Batch, chunks
from mnemoscope.methods.thresholds import stored_threshold
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts


class Scorer:
    """Scores texts by one detection of one model; `threshold`, if there is one, holds for just these conditions.

    Raises `UsageError` for a method, a parameter or a threshold that does not fit.
    """

    def __init__(
        self, model: Denoiser, detection: Detection, *, threshold: Path | None = None, batch: int | str = "auto"
    ) -> None:
        registry.checked(registry.detection(detection.method), detection.parameters, extra=("steps",))
        self.model = model
        self.detection = detection
        self.conditions = detection.conditions(model)
        self.threshold = stored_threshold(threshold, self.conditions) if threshold else None
        self._batch = Batch.of(model, batch, detection.seeds)

    def __call__(self, texts: Iterable[str], seeds: Sequence[int] = ()) -> dict[str, float]:
        """The score of each text, from the seeds that their prompt was explained from; equal texts are scored once."""
        own = tuple(seeds) if len(seeds) == self.detection.seeds else tuple(seeds[:1])
        prompts = [replace(prompt, seeds=own) for prompt in as_prompts(dict.fromkeys(texts))]
        with self.model.bounded(self._batch.at_once):
            parts = [detect_rows(self.model, some, self.detection) for some in chunks(prompts, self._batch.prompts)]
        return {row["prompt"]: row["score"] for part in parts for row in part}


def detection_of(record: Mapping[str, Any], method: str, params: Mapping[str, Any], seeds: int | None) -> Detection:
    """The detection by a method that samples as a run did, whose record this is."""
    known = record["settings"]
    sampling = {k: known[k] for k in ("seed", "num_inference_steps", "guidance_scale") if known.get(k) is not None}
    return Detection(method, dict(params), seeds=seeds or known.get("seeds") or 1, **sampling)
