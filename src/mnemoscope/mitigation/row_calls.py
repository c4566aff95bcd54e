"""What a pipeline that is known by a row gave its network in one step of a call, and what of a call a row describes."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond, concatenate
from mnemoscope.model.dry import Arguments
from mnemoscope.model.facts import Row
from mnemoscope.model.recording import CALL
from mnemoscope.model.traced import Traced

DESCRIBED = {  # arguments that change nothing which a row states, or what the network is seen to be given
    *CALL,
    *("num_inference_steps", "timesteps", "sigmas", "mu", "eta", "generator", "latents", "output_type", "return_dict"),
    *("num_images_per_prompt", "num_videos_per_prompt", "use_resolution_binning", "callback", "callback_steps"),
    *("callback_on_step_end", "callback_on_step_end_tensor_inputs", "decode_timestep", "decode_noise_scale"),
}


class StepCalls:
    """The calls of the network in one sampling step: the branches of `count` samples, and their conditioning.

    Raises `UsageError` where the calls are not those that the row of the pipeline's class states.
    """

    def __init__(self, family: Traced, calls: Sequence[tuple[Arguments, Any]], count: int) -> None:
        self.family, self.calls, self.count = family, calls, count
        most = 1 if family.joined or not family.branches else 2
        if not 1 <= len(calls) <= most:
            raise _undescribed(family, f"its network was called {len(calls)} times in a step")
        row, (arguments, _) = family.row, calls[0]
        self.shape = row.packing.shape(arguments[row.x], arguments)
        self.guided = family.branches and (len(calls) == 2 or len(arguments[row.x]) == 2 * count)
        if not self.guided and len(arguments[row.x]) != count:
            raise _undescribed(family, f"its network was given {len(arguments[row.x])} samples for {count} images")

    @cached_property
    def _natives(self) -> list[Tensor]:
        """Predictions of each branch, in the order of the pipeline."""
        found = [self.family.native(output, self.shape) for _, output in self.calls]
        return list(found[0].chunk(2)) if self.guided and self.family.joined else found

    def _place(self, null: bool) -> int:
        first = self.family.joined and self.family.null_first
        return int(null != first) if self.guided else 0

    @property
    def native_cond(self) -> Float[Tensor, "B C h w"]:
        return self._natives[self._place(null=False)]

    @property
    def native_uncond(self) -> Float[Tensor, "B C h w"] | None:
        """The unconditional prediction, where the pipeline made one."""
        return self._natives[self._place(null=True)] if self.guided else None

    def conditioning(self, *, null: bool = False) -> Cond:
        """The conditioning of each sample in a branch."""
        place = self._place(null)
        arguments = self.calls[0 if self.family.joined else place][0]
        begin = place * self.count if self.family.joined else 0
        given = len(arguments[self.family.texts[0]])  # one for all, where a negative prompt is one string
        places = (begin + k if given > 1 else 0 for k in range(self.count))
        return concatenate(*(self.family.conditioning(arguments, k) for k in places))


def core(row: Row, state: Tensor, shape: Sequence[int]) -> Float[Tensor, "B C h w"]:
    """The solver's state, or its prediction, as latents; some pipelines keep it packed as their network takes it."""
    return state if state.ndim == 4 else row.packing.unpack(state, shape)


def in_state(row: Row, latents: Float[Tensor, "B C h w"], like: Tensor) -> Tensor:
    """Latents as the pipeline keeps its solver's state."""
    return (latents if like.ndim == 4 else row.packing.pack(latents)).to(like)


def refuse_arguments(pipe: Any, row: Row, asked: Mapping[str, Any]) -> None:
    """Raise `UsageError` for arguments of a call that the row does not describe."""
    usual, name = inspect.signature(pipe.__call__).parameters, type(pipe).__name__
    for key, wanted in row.call.items():
        if key not in DESCRIBED and asked.get(key) != wanted:
            raise UsageError(f"Guard knows {name} with {key}={wanted} alone, and {asked.get(key)} was given.")
    for key, value in asked.items():
        own = key in DESCRIBED or key in row.call or key == row.scale or "prompt" in key
        if not own and not _is_usual(value, usual[key]):
            raise UsageError(f"Guard does not know what {key} does to {name}; leave it out, or use the pipeline alone.")


def _is_usual(value: Any, parameter: inspect.Parameter) -> bool:
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return not value
    return value is parameter.default or (not isinstance(value, Tensor) and value == parameter.default)


def _undescribed(family: Traced, why: str) -> UsageError:
    name = type(family.pipe).__name__
    return UsageError(f"Guard cannot follow this call of {name}, which its row does not describe: {why}.")


def refuse_another_combination(family: Traced, native: Tensor, given: Tensor) -> None:
    """Raise `UsageError` where the solver is given something else than the row's combination of both branches."""
    apart = (native.float() - given.float()).norm()
    if not torch.isfinite(apart) or apart > 0.02 * given.float().norm():
        raise _undescribed(family, "its branches are combined in another way")
