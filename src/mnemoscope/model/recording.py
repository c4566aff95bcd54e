"""What a user's own pipeline gives its network, recorded in dry runs of it and kept."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.dry import Arguments, Outputs, Recorded, dry_run
from mnemoscope.model.facts import Row, plain
from mnemoscope.model.families import Family
from mnemoscope.model.rows import ROWS
from mnemoscope.model.solvers import copied

NESTED = "added_cond_kwargs"
LENGTHS = "text_lengths"  # [B], how many positions of a padded text are there
# arguments of a pipeline's call that change its conditioning and nothing else that a row states
CALL = (
    "max_sequence_length",
    "height",
    "width",
    "system_prompt",
    "complex_human_instruction",
    "text_encoder_out_layers",
)


class Recording(Family):
    """A pipeline whose class has a row, and what its dry runs have shown.

    Prompts are encoded one at a time, so that no prompt's conditioning depends on another's, and once. `call` are
    further arguments of the pipeline's own call, such as `max_sequence_length`, `height` and `width`. `evaluations`
    counts the network's evaluations in dry runs.
    """

    def __init__(self, pipe: DiffusionPipeline, call: Mapping[str, Any] | None = None) -> None:
        super().__init__(pipe)
        self.row: Row = ROWS[type(pipe).__name__]
        self.name, self.texts, self.pooled = self.row.name, self.row.texts, self.row.pooled
        self.branches = self.row.calls != "one" and not self.row.distilled(pipe)  # whether sampling has a second one
        self.combines_plainly = self.row.combine is plain
        self.joined, self.null_first = self.branches and self.row.calls != "apart", self.row.calls == "null first"
        self.call, self.evaluations = {**self.row.call, **(call or {})}, 0
        self._shared: dict[Any, Arguments] = {}
        self._solvers: dict[Any, Any] = {}

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return type(pipe).__name__ in ROWS

    @property
    def network(self) -> Any:
        return getattr(self.pipe, self.row.network)

    @property
    def pixels(self) -> int:
        return self.row.pixels(self.pipe)

    def draw_at(self, size: tuple[int, int] | None) -> None:
        """Draw images of this height and width in pixels, or of the model's own; `UsageError` where that cannot be."""
        if size is None:
            return
        if any(side % self.pixels for side in size):
            given = "x".join(map(str, size))
            raise UsageError(f"The size {given} cannot be drawn: give multiples of {self.pixels} pixels.")
        self.call |= {"height": size[0], "width": size[1]}
        self.__dict__.pop("latent_shape", None)

    @contextmanager
    def called(self, asked: Mapping[str, Any]) -> Iterator[None]:
        """Condition as a call of the pipeline with these arguments does, until the block ends."""
        before = self.call
        self.call = {**before, **{k: asked[k] for k in CALL if k in asked}}
        self.__dict__.pop("latent_shape", None)
        try:
            yield
        finally:
            self.call = before
            self.__dict__.pop("latent_shape", None)

    def _parameter(self, name: str) -> Any:
        return self.call.get(name, inspect.signature(self.pipe.__call__).parameters[name].default)

    @property
    def default_guidance(self) -> float:
        return float(self._parameter(self.row.scale))

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        arguments = self._dry("").arguments
        return self.row.packing.shape(arguments[self.row.x], arguments)

    def _scale(self, guided: bool) -> float:
        """A guidance scale with which the pipeline guides, its own where that does, or the one that turns it off."""
        if not guided:
            return self.row.off
        return self.default_guidance if self.default_guidance > self.row.off else self.row.off + 1

    def _dry(
        self, prompt: str, *, guided: bool = False, steps: int = 2, shape: Sequence[int] | None = None, number: int = 1
    ) -> Recorded:
        row, call = self.row, {**self.call, "num_inference_steps": steps}
        if shape is not None:
            call["height"], call["width"] = (side * row.pixels(self.pipe) for side in shape[-2:])
        if row.calls != "one":
            call[row.scale] = self._scale(guided)
        negative = self.negative_prompt if self.negative_prompt is not None else row.null_prompt
        if guided and negative is not None:
            call["negative_prompt"] = [negative]
        known: Outputs | None = None if prompt else self.kept(("of no text", *self.state()), dict)
        return dry_run(self.pipe, self.network, [prompt], call, number=number, known=known)

    def solver(self, steps: int, shape: Sequence[int]) -> Any:
        """The pipeline's solver with its timesteps set for so many steps at this size, as the pipeline sets them."""
        scheduler = self.pipe.scheduler
        key = (
            steps,
            *shape[-2:],
            str(self.call),
            type(scheduler).__name__,
            json.dumps(dict(scheduler.config), default=str),
        )
        if key not in self._solvers:
            self._solvers[key] = self._dry("", steps=steps, shape=shape).solver
        return copied(self._solvers[key])

    def recorded(self, prompt: str, shape: Sequence[int]) -> tuple[Cond, dict[str, list[int]]]:
        """Conditioning of a prompt, and the ids that each text encoder was given for it."""

        def make() -> tuple[Cond, dict[str, list[int]]]:
            found = self._dry(prompt, shape=shape)
            return self.conditioning(found.arguments, 0), {k: v[0][0].tolist() for k, v in found.ids.items()}

        return self.kept(("cond", prompt, *shape[-2:], *self.state()), make)

    def conditioning(self, arguments: Mapping[str, Any], index: int) -> Cond:
        """One sample's rows of a call of the network."""
        row = self.row
        flat = {**arguments, **(arguments.get(NESTED) or {})}
        given = [n for n in (*row.texts, *row.pooled, *row.samples) if flat.get(n) is not None]
        found = {n: flat[n][index][None].detach().to(self.device) for n in given}
        if row.ragged:
            (name,) = row.texts
            text, mask = found[name], arguments.get(f"{name}_mask")
            length = text.shape[1] if mask is None else int(mask[index].sum())
            found[LENGTHS] = torch.tensor([length], device=text.device)
            found[name] = nn.functional.pad(text, (0, 0, 0, self._parameter("max_sequence_length") - text.shape[1]))
        return found

    def shared(self, shape: Sequence[int]) -> Arguments:
        """Arguments of the network that all samples of a size share."""
        key = (*shape[-2:], str(self.call), self.network.dtype, self.device)
        if key not in self._shared:
            row, found = self.row, self._dry("", shape=shape).arguments
            own = {*row.texts, *row.pooled, *row.samples, row.x, row.t, "return_dict"}
            self._shared[key] = {k: v for k, v in found.items() if k not in own}
        return self._shared[key]

    def state(self) -> tuple[Any, ...]:
        return str(self.call), *super().state()
