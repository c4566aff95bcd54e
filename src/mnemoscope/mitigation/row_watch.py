"""One call of a pipeline that is known by a row as a sampling that can be mitigated: seen at network and solver."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.gate import Gate, apply
from mnemoscope.mitigation.row_calls import StepCalls, core, in_state, refuse_another_combination, refuse_arguments
from mnemoscope.mitigation.watch import keys_of, prompts_of, same, stepped
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.dry import Arguments, bound, refuse_cache
from mnemoscope.model.sampling import Sampler
from mnemoscope.model.solvers import copied, scaled
from mnemoscope.model.start import Start
from mnemoscope.model.step import Seen
from mnemoscope.model.traced import Traced
from mnemoscope.registry import Method


class RowWatch:
    """A hook on the network and another step of the solver, for one call of a pipeline whose class has a row.

    The network's calls are only looked at. What the solver is given for a flagged image is that of the mitigated
    sampling, from evaluations of its own; what it is given for the others is never touched.
    """

    def __init__(
        self, model: Denoiser, gate: Gate, found: Method, given: Mapping[str, Any], asked: Mapping[str, Any]
    ) -> None:
        self.model, self.gate, self.found, self.given, self.asked = model, gate, found, given, asked
        self.family = cast(Traced, model.family)
        self.seen: list[Seen] = []
        self.start: Start
        self.sampler: Sampler
        self.index, self.own = 0, False  # own: while the network is evaluated for the guard itself
        self.calls: list[tuple[Arguments, Any]] = []
        refuse_arguments(model.pipe, self.family.row, asked)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A hook and a step that are gone when the block ends."""
        network, scheduler = self.model.network, self.model.pipe.scheduler
        refuse_cache(network)
        handle = network.register_forward_hook(self._called, with_kwargs=True)
        try:
            with self.family.called(self.asked), stepped(scheduler, self._stepping(scheduler, scheduler.step)):
                yield
        finally:
            handle.remove()

    def _called(self, network: Any, args: tuple, kwargs: Arguments, output: Any) -> None:
        if not self.own:
            self.calls.append((bound(network, args, kwargs), output[0]))

    def _stepping(self, scheduler: Any, plain: Callable) -> Callable:
        """The solver's step, given other predictions, and at first other noise, for the images that are mitigated."""

        @wraps(plain)
        def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            calls, self.calls, self.own = StepCalls(self.family, self.calls, len(sample)), [], True
            try:
                model_output, sample = self._mitigated(calls, copied(scheduler), timestep, model_output, sample)
            finally:
                self.own, self.index = False, self.index + 1
            return plain(model_output, timestep, sample, *args, **kwargs)

        return step

    def _mitigated(
        self, calls: StepCalls, solver: Any, t: Tensor, output: Tensor, sample: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction that the solver is given, and its state, with those of the mitigated images in them."""
        row, shape = self.family.row, calls.shape
        state = core(row, sample, shape)
        if not self.index:
            self._begin(calls, solver, t, scaled(copied(solver), state, t), core(row, output, shape))
            state = self.sampler.state_of(state, self.start)
            sample = in_state(row, state, sample) if self.start.changed.any() else sample
        if not (self.start.changed.any() or self.start.step_changes):
            return output, sample
        x_t = scaled(solver, state, t) if self.index else self.start.x_t
        index = torch.tensor([i for i, seen in enumerate(self.seen) if seen["flagged"]], device=output.device)
        native = self._native(calls, t, x_t)[index.to(x_t.device)]
        return output.index_copy(0, index, in_state(row, native, output)), sample

    def _begin(
        self, calls: StepCalls, solver: Any, t: Tensor, x_t: Float[Tensor, "B C h w"], given: Float[Tensor, "B C h w"]
    ) -> None:
        """Make the start that the pipeline's first step shows, and let the gate and the mitigation act on it."""
        model, family, asked = self.model, self.family, self.asked
        scale = asked[family.row.scale]
        if family.branches and not calls.guided:
            scale = min(scale, family.row.off)
        cond, null = calls.conditioning(), self._negative(calls)
        self.sampler = Sampler(model, asked["num_inference_steps"], scale, False, (), calls.shape, solver)
        self.start = Start(self.sampler, prompts_of(asked, len(x_t)), keys_of(x_t), x_t, cond, null)
        made = partial(self.sampler.made, 0, t, x_t, cond, calls.native_cond)
        refuse_another_combination(family, made(lambda: calls.native_uncond).native, given)
        self.start.first = made(self._null_branch(calls, t, x_t, own=null is None))
        apply(self.found, self.given, self.start, self.gate)
        self.seen = self.start.seen

    def _negative(self, calls: StepCalls) -> Any:
        """Conditioning of the unconditional branch of each sample, where it is not the model's own."""
        texts = (v for k, v in self.asked.items() if k.startswith("negative_") and "prompt" in k)
        if not calls.guided or all(v is None for v in texts):
            return None
        null = calls.conditioning(null=True)
        return None if same(null, self.model.null(1, calls.shape)) else null

    def _null_branch(self, calls: StepCalls, t: Tensor, x_t: Tensor, *, own: bool) -> Callable[[], Tensor]:
        """The prediction without a prompt: the pipeline's own, where it makes one without a negative prompt."""
        uncond = calls.native_uncond
        if own and uncond is not None:
            return lambda: uncond
        return partial(self.model.predict_null, x_t, t, guidance_scale=self.sampler.guidance_scale)

    def _native(self, calls: StepCalls, t: Tensor, x_t: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """What the solver would be given for each image if all of them were mitigated as the flagged ones are."""
        start, cond, uncond = self.start, calls.native_cond, calls.native_uncond
        if start.changed.any():
            cond, uncond = self._looked_at(t, x_t, cond, uncond)
        alone = partial(self.model.predict_null, x_t, t, start.null, self.sampler.guidance_scale)
        branch = alone if uncond is None else lambda: uncond
        step = self.sampler.made(self.index, t, x_t, start.cond, cond, branch, start.null)
        with torch.no_grad():
            for change in start.step_changes:
                change(step)
            return step.native

    def _looked_at(self, t: Tensor, x_t: Tensor, cond: Tensor, uncond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both predictions, anew for the images whose noise or conditioning was changed."""
        start = self.start
        index = start.changed.nonzero()[:, 0].to(x_t.device)
        if not self.index and start.known and start.null is None:
            new = tuple(each[index] for each in start.known)
        else:
            part = start.select(index)
            step = self.sampler.look_at(self.index, t, x_t[index], part.cond, part.null)
            new = (step.native_cond, step.native_uncond if uncond is not None else step.native_cond)
        cond = cond.index_copy(0, index, new[0].to(cond))
        return cond, None if uncond is None else uncond.index_copy(0, index, new[1].to(uncond))
