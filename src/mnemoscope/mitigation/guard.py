"""Guard: a user's own pipeline that mitigates what its first step shows to be memorized."""

import inspect
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.methods.gate import Gate
from mnemoscope.mitigation.row_watch import RowWatch
from mnemoscope.mitigation.watch import Watch
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.schedule import Units
from mnemoscope.model.traced import Traced

UNSUPPORTED = ("image", "ip_adapter_image", "ip_adapter_image_embeds", "cross_attention_kwargs", "denoising_end")


class Guard:
    """A pipeline that looks at its first step, and mitigates the images whose score there passes a threshold.

    Calling it is calling the pipeline: same arguments, same output, with `seen` added to it, a dictionary for each
    image (score, threshold, flagged, and what was done). The first step is the pipeline's own and is not computed
    again; an image that is not flagged comes out bit for bit as without the guard. `threshold` is the summary of a
    detection, refused under other conditions than its own, or a number for noise_norm in `units` of eps or x0, needed
    where the noise schedule begins at pure noise; "1.5:x0" says both. `mitigation` is any method of
    `mnemoscope.mitigate`, with its parameters. For families known by a row a flagged image costs the evaluations of
    its own sampling beside the pipeline's. Raises `UsageError` for a pipeline that draws from anything but text.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        *,
        threshold: int | float | str | Path,
        units: Units | None = None,
        mitigation: registry.Name = "embedding_descent",
        **parameters: Any,
    ) -> None:
        self.model = Denoiser(pipe)
        name, takes = type(pipe).__name__, inspect.signature(pipe.__call__).parameters
        self.by_row = isinstance(self.model.family, Traced)
        from_text = {"prompt", "prompt_embeds"} <= set(takes) and "image" not in takes
        if not self.by_row and (self.model.family.unguided or not from_text):
            raise UsageError(f"Guard needs a pipeline that draws from text alone, with guidance; {name} is not one.")
        self.pipe, self.gate, self.found = pipe, Gate.of(threshold, units), registry.stopping(mitigation)
        self.given = registry.checked(self.found, registry.with_score(self.found, parameters))
        self.seen: list[dict[str, Any]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's output with `seen` added; with `return_dict=False` that is found on the guard alone."""
        bound = inspect.signature(self.pipe.__call__).bind(*args, **kwargs)
        bound.apply_defaults()
        asked = bound.arguments
        for name in () if self.by_row else UNSUPPORTED:
            if asked.get(name) is not None:
                raise UsageError(f"Guard does not pass {name} on to a mitigation; leave it out, or use the pipeline.")
        if self.gate.file and any(asked.get(name) is not None for name in ("timesteps", "sigmas")):
            raise UsageError(f"The threshold of {self.gate.file} holds for the solver's own timesteps; give no others.")
        watch = (RowWatch if self.by_row else Watch)(self.model, self.gate, self.found, self.given, asked)
        with watch.watching():
            output = self.pipe(*args, **kwargs)
        self.seen = watch.seen
        if not isinstance(output, tuple):
            output.seen = watch.seen
        return output
