"""One call of a pipeline as a sampling that can be mitigated: what its network is given, and what it gives."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from mnemoscope.methods.gate import Gate, apply
from mnemoscope.model.cond import Cond, rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.dry import Arguments
from mnemoscope.model.sampling import Sampler
from mnemoscope.model.solvers import copied
from mnemoscope.model.start import Start
from mnemoscope.model.step import Seen
from mnemoscope.registry import Method

PLAIN, ADDED = ("encoder_hidden_states", "timestep_cond"), ("text_embeds", "time_ids")


class Watch:
    """Hooks on the network and the solver of a pipeline for one call of it.

    At the network's first output the gate decides. From then on flagged images get the mitigation's conditioning,
    noise and steps in the place of the pipeline's own; the others are never touched.
    """

    def __init__(
        self, model: Denoiser, gate: Gate, found: Method, given: Mapping[str, Any], asked: Mapping[str, Any]
    ) -> None:
        self.model, self.gate, self.found, self.given, self.asked = model, gate, found, given, asked
        self.seen: list[Seen] = []
        self.start: Start
        self.sampler: Sampler
        self.index, self.own, self.begun = 0, False, False  # own: while the network is evaluated for the guard itself

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks that are gone when the block ends."""
        network, scheduler = self.model.network, self.model.pipe.scheduler
        handles = [
            network.register_forward_pre_hook(self._before, with_kwargs=True),
            network.register_forward_hook(self._after, with_kwargs=True),
        ]
        try:
            with stepped(scheduler, self._stepping(scheduler.step)):
                yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def guided(self) -> bool:
        """Whether the pipeline's batches hold an unconditional half before the conditional one."""
        return bool(self.model.pipe.do_classifier_free_guidance)

    @property
    def steered(self) -> bool:
        """Whether the mitigation's conditioning holds what the pipeline has no argument for."""
        return bool(set(self.start.cond) - {*PLAIN, *ADDED})

    def _before(self, network: Any, args: tuple, kwargs: Arguments) -> tuple[tuple, Arguments] | None:
        """Give the network the mitigation's conditioning for the images that have one."""
        if self.own or not self.begun or not self.start.changed.any() or self.steered:
            return None
        index, start = self.start.changed.nonzero()[:, 0], self.start
        given = conditioning(kwargs)
        count = len(start)
        for name, value in start.cond.items():
            whole = given[name].clone()
            whole[index + count * self.guided] = value[index].to(whole)
            if self.guided and start.null is not None and name in start.null:
                whole[index] = start.null[name][index].to(whole)
            given[name] = whole
        added = (
            {"added_cond_kwargs": {**kwargs["added_cond_kwargs"], **only(given, ADDED)}} if only(given, ADDED) else {}
        )
        return args, {**kwargs, **only(given, PLAIN), **added}

    def _after(self, network: Any, args: tuple, kwargs: Arguments, output: Any) -> Any:
        """Put the mitigation's predictions in the place of the pipeline's own, for the images that have some."""
        if self.own:
            return None
        sample, (x, t) = output[0], args[:2]
        self.own = True
        try:
            uncond, cond = self._halves(sample)
            x_t = self._halves(x)[1]
            if self.begun:
                uncond, cond = self._looked_at(x_t, t, uncond, cond) if self.steered else (uncond, cond)
            else:
                self._begin(x_t, t, conditioning(kwargs), uncond, cond)
                uncond, cond = self._first(uncond, cond)
            uncond, cond = self._changed(x_t, t, uncond, cond)
        finally:
            self.own, self.begun, self.index = False, True, self.index + 1
        patched = cond if uncond is None else torch.cat([uncond, cond])
        return (patched, *output[1:]) if isinstance(output, tuple) else type(output)(sample=patched)

    def _halves(self, batch: Tensor) -> tuple[Tensor | None, Tensor]:
        """The unconditional half, if there is one, and the conditional one."""
        if not self.guided:
            return None, batch
        uncond, cond = batch.chunk(2)
        return uncond, cond

    def _begin(self, x_t: Tensor, t: Tensor, given: Cond, uncond: Tensor | None, cond: Tensor) -> None:
        """Make the start that the pipeline's first step shows, and let the gate and the mitigation act on it."""
        count, model, asked = len(x_t), self.model, self.asked
        null = rows(given, slice(0, count)) if self.guided else None
        negative = null is not None and not same(null, model.null(1, x_t.shape[1:]))
        sampling = (model, asked["num_inference_steps"], model.pipe.guidance_scale, False, ())
        self.sampler = Sampler(*sampling, x_t.shape[1:], copied(model.pipe.scheduler))
        seeds = keys_of(x_t)
        own = rows(given, slice(count * self.guided, None))
        self.start = Start(self.sampler, prompts_of(asked, count), seeds, x_t, own, null if negative else None)
        plain = uncond is None or negative
        branch = partial(model.predict_null, x_t, t) if plain else lambda: uncond
        self.start.first = self.sampler.made(0, t, x_t, own, cond, branch)
        apply(self.found, self.given, self.start, self.gate)
        self.seen = self.start.seen

    def _first(self, uncond: Tensor | None, cond: Tensor) -> tuple[Tensor | None, Tensor]:
        """The first predictions, new for the images whose noise or conditioning was changed."""
        start = self.start
        if not start.changed.any():
            return uncond, cond
        index = start.changed.nonzero()[:, 0]
        if start.known and start.null is None:
            return self._replaced(index, uncond, cond, start.known[1][index], start.known[0][index])
        return self._looked_at(start.x_t, start.t, uncond, cond)

    def _looked_at(self, x_t: Tensor, t: Tensor, uncond: Tensor | None, cond: Tensor) -> tuple[Tensor | None, Tensor]:
        """The network's predictions for the changed images under the mitigation's conditioning."""
        index = self.start.changed.nonzero()[:, 0]
        part = self.start.select(index)
        step = self.sampler.look_at(self.index, t, x_t[index], part.cond, part.null)
        return self._replaced(index, uncond, cond, step.native_uncond if self.guided else None, step.native_cond)

    def _replaced(
        self, index: Tensor, uncond: Tensor | None, cond: Tensor, new_uncond: Tensor | None, new_cond: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        index = index.to(cond.device)
        if uncond is not None and new_uncond is not None:
            uncond = uncond.index_copy(0, index, new_uncond.to(uncond))
        return uncond, cond.index_copy(0, index, new_cond.to(cond))

    def _changed(self, x_t: Tensor, t: Tensor, uncond: Tensor | None, cond: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the mitigation's changes of a step make of it, for flagged images: one prediction, in both halves."""
        if not self.start.step_changes:
            return uncond, cond
        branch = partial(self.model.predict_null, x_t, t) if uncond is None else lambda: uncond
        step = self.sampler.made(self.index, t, x_t, self.start.cond, cond, branch, self.start.null)
        for change in self.start.step_changes:
            change(step)
        index = torch.tensor([i for i, seen in enumerate(self.seen) if seen["flagged"]])
        return self._replaced(index, uncond, cond, step.native[index], step.native[index])

    def _stepping(self, plain: Callable) -> Callable:
        """The solver's step, taking the mitigation's noise in the place of the pipeline's own at the first one."""

        @wraps(plain)
        def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.index == 1 and self.start.changed.any() and not torch.equal(self.start.x_t, self.start.first.x_t):
                sample = self.sampler.state_of(sample, self.start)
            return plain(model_output, timestep, sample, *args, **kwargs)

        return step


@contextmanager
def stepped(scheduler: Any, step: Callable) -> Iterator[None]:
    """A solver with another step, until the block ends."""
    before = vars(scheduler).get("step")  # the caller's own, where there is one
    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
        if before is not None:
            scheduler.step = before


def prompts_of(asked: Mapping[str, Any], count: int) -> list[str] | None:
    """The prompt of each image of a call; none where the caller gave embeddings."""
    prompt = asked.get("prompt")
    if prompt is None:
        return None
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    return [text for text in texts for _ in range(count // len(texts))]


def keys_of(x_t: Tensor) -> list[int]:
    """What images are told apart by where no seed is known: their noise."""
    return [zlib.crc32(row.cpu().float().numpy().tobytes()) for row in x_t]


def conditioning(kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The conditioning of a call of the network, both halves, as its own denoiser would make it."""
    return {**only(kwargs, PLAIN), **only(kwargs.get("added_cond_kwargs") or {}, ADDED)}


def only(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Those of the named values that are there."""
    return {name: values[name] for name in names if values.get(name) is not None}


def same(cond: Cond, other: Cond) -> bool:
    """Whether the first rows of two conditionings are the same up to rounding."""
    return all(torch.allclose(cond[k][0].float(), v[0].float(), rtol=1e-3, atol=1e-3) for k, v in other.items())
