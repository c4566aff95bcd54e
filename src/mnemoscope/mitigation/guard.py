"""Guard: a user's own pipeline that mitigates what its first step shows to be memorized."""

import inspect
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from diffusers import DiffusionPipeline

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.methods.gate import Gate
from mnemoscope.mitigation.redraw import AGAIN, Lookout, refuse_unseen, without_copies
from mnemoscope.mitigation.row_watch import RowWatch
from mnemoscope.mitigation.watch import Watch
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.schedule import Units
from mnemoscope.model.step import Seen
from mnemoscope.model.traced import Traced
from mnemoscope.run.options import either

UNSUPPORTED = ("image", "ip_adapter_image", "ip_adapter_image_embeds", "cross_attention_kwargs", "denoising_end")
_LOCKS: "WeakKeyDictionary[DiffusionPipeline, threading.RLock]" = WeakKeyDictionary()  # one call of each at a time


class Guard:
    """A pipeline that looks at its first step, and mitigates the images whose score there passes a threshold.

    Calling it is calling the pipeline: same arguments, same output, with `seen` added to it, a dictionary for each
    image (score, threshold, flagged, and what was done). The first step is the pipeline's own and is not computed
    again; an image that is not flagged comes out bit for bit as without the guard. `threshold` is the summary of a
    detection, refused under other conditions than its own, or a number for noise_norm in `units` of eps or x0, needed
    where the noise schedule begins at pure noise; "1.5:x0" says both. `mitigation` is any method of
    `mnemoscope.mitigate`, with its parameters. For families known by a row a flagged image costs the evaluations of
    its own sampling beside the pipeline's.

    `index` is one of training images (a folder, or a `Lookout` with a threshold of its own): a finished image that is a
    copy of one, by `similarity`, is drawn again from another seed, mitigated whatever its score (`again="seed"`: as any
    other), at most `attempts` times; what is a copy still is withheld, and black. `seen` then has `copied`, `withheld`
    and all `attempts` with their similarities. Calls from several threads wait for one another; each has the `seen` of
    its own. Raises `UsageError` for a pipeline that draws from anything but text.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        *,
        threshold: int | float | str | Path,
        units: Units | None = None,
        mitigation: registry.Name = "embedding_descent",
        index: Lookout | Path | str | None = None,
        similarity: float | None = None,
        attempts: int = 3,
        again: str = "mitigate",
        **parameters: Any,
    ) -> None:
        if again not in AGAIN:
            raise UsageError(f"again='{again}' was given; give {either(AGAIN)}.")
        if attempts < 1:
            raise UsageError(f"attempts={attempts} was given; give 1 or more, or leave out the index.")
        self.model = Denoiser(pipe)
        name, takes = type(pipe).__name__, inspect.signature(pipe.__call__).parameters
        self.by_row = isinstance(self.model.family, Traced)
        from_text = {"prompt", "prompt_embeds"} <= set(takes) and "image" not in takes
        if not self.by_row and (self.model.family.unguided or not from_text):
            raise UsageError(f"Guard needs a pipeline that draws from text alone, with guidance; {name} is not one.")
        self.pipe, self.gate, self.found = pipe, Gate.of(threshold, units), registry.stopping(mitigation)
        self.given = registry.checked(self.found, registry.with_score(self.found, parameters))
        self.lookout = index if index is None or isinstance(index, Lookout) else Lookout(index, similarity=similarity)
        self.attempts, self.again = attempts, again
        self._lock, self._last = _LOCKS.setdefault(pipe, threading.RLock()), threading.local()

    @property
    def seen(self) -> list[Seen]:
        """What was seen of each image of this thread's last call."""
        return getattr(self._last, "seen", [])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's output with `seen` added; with `return_dict=False` that is found on the guard alone."""
        bound = inspect.signature(self.pipe.__call__).bind(*args, **kwargs)
        bound.apply_defaults()
        asked = bound.arguments
        self._check(asked)
        with self._lock:
            output, seen = self._drawn(self.gate, asked, *args, **kwargs)
            if self.lookout:
                without_copies(output[0], seen, self.lookout, asked, self._again, self.attempts)
        self._last.seen = seen
        if not isinstance(output, tuple):
            output.seen = seen
        return output

    def _check(self, asked: Mapping[str, Any]) -> None:
        for name in () if self.by_row else UNSUPPORTED:
            if asked.get(name) is not None:
                raise UsageError(f"Guard does not pass {name} on to a mitigation; leave it out, or use the pipeline.")
        if self.gate.file and any(asked.get(name) is not None for name in ("timesteps", "sigmas")):
            raise UsageError(f"The threshold of {self.gate.file} holds for the solver's own timesteps; give no others.")
        if self.lookout:
            refuse_unseen(asked)

    def _drawn(self, gate: Gate, asked: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, list[Seen]]:
        """A call of the pipeline behind a gate, and what was seen of each image."""
        watch = (RowWatch if self.by_row else Watch)(self.model, gate, self.found, self.given, asked)
        with watch.watching():
            output = self.pipe(*args, **kwargs)
        return output, watch.seen

    def _again(self, asked: Mapping[str, Any]) -> tuple[Any, list[Seen]]:
        gate = replace(self.gate, always=True) if self.again == "mitigate" else self.gate
        return self._drawn(gate, asked, **asked)
