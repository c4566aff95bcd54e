"""What a sampling begins from, and how a mitigation changes it."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond, rows
from mnemoscope.model.predictor import Solver
from mnemoscope.model.step import Seen, Step

StepChange = Callable[[Step], None]


class Start:
    """Prompts, seeds, noise and conditioning of a batch that is about to be sampled.

    `x_t` is the network's first input and `null` a conditioning of the unconditional branch in place of the model's
    own. A mitigation changes these by `change`, or every step by `each_step`, and says in `seen` what it did, in one
    dictionary for each sample. `prompts` is None where only embeddings were given.
    """

    def __init__(
        self,
        solver: Solver,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        x_t: Float[Tensor, "B C h w"],
        cond: Cond,
        null: Cond | None = None,
    ) -> None:
        self.solver, self.model = solver, solver.model
        self.prompts, self.seeds = None if prompts is None else list(prompts), list(seeds)
        self.x_t, self.cond, self.null = x_t, cond, null
        self.known: tuple[Tensor, Tensor] | None = None
        self.seen: list[Seen] = [{} for _ in self.seeds]
        self.step_changes: list[StepChange] = []
        self.changed = torch.zeros(len(x_t), dtype=torch.bool)
        self._begun = (x_t, cond, null)
        self._first: Step | None = None

    def __len__(self) -> int:
        return len(self.x_t)

    @property
    def first(self) -> Step:
        """The first step as it would be without any mitigation; computed once, and reused for what stays unchanged."""
        if self._first is None:
            self._first = self.solver.look(Start(self.solver, self.prompts, self.seeds, *self._begun))
        return self._first

    @first.setter
    def first(self, step: Step) -> None:
        self._first = step

    @property
    def is_looked_at(self) -> bool:
        """Whether the first step without any mitigation is computed already."""
        return self._first is not None

    @property
    def t(self) -> Tensor:
        """The first timestep."""
        return self.solver.timesteps[0]

    def change(
        self,
        *,
        x_t: Tensor | None = None,
        cond: Cond | None = None,
        null: Cond | None = None,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Put other noise or conditioning in place; `known` are both native predictions there, if they are at hand."""
        self.x_t = self.x_t if x_t is None else x_t
        self.cond = self.cond if cond is None else cond
        self.null = self.null if null is None else null
        self.known = known
        self.changed[:] = True

    def each_step(self, change: StepChange) -> None:
        """Call `change` with every step of this sampling, before the solver takes it."""
        self.step_changes.append(change)

    def encode(self, prompts: Sequence[str]) -> Cond:
        """Conditioning of other prompts, for `change`."""
        cond = self.model.encode(prompts, self.x_t.shape[1:])
        return self.model.family.guided(cond, self.solver.guidance_scale)

    def observe(
        self,
        x_t: Tensor,
        cond: Cond,
        t: Tensor | None = None,
        index: int = 0,
        *,
        native_uncond: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> Step:
        """The step that the network sees there, with a graph to whatever requires a gradient.

        `native_uncond` is the unconditional prediction there, where it is at hand; otherwise it is computed when asked
        for, with a graph if x_t requires a gradient. `samples` are those looked at, where these are not all.
        """
        t, model, solver = self.t if t is None else t, self.model, self.solver
        null_rows = self.null if self.null is None or samples is None else rows(self.null, samples)
        null = (
            partial(model.predict_null, x_t, t, null_rows, solver.guidance_scale)
            if native_uncond is None
            else lambda: native_uncond
        )
        native_cond = model.predict(x_t, t, cond)
        step = model.step(
            index, t, x_t, cond, solver.guidance_scale, native_cond, null, solver.timesteps, solver.levels
        )
        step.null = null_rows
        return step

    def native_uncond(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The unconditional prediction in the network's own units, without a graph; once for samples of equal x_t."""
        if self.is_looked_at and x_t is self._begun[0] and self.null is self._begun[2]:
            return self.first.native_uncond
        return self.solver.null_alone(x_t, t, self.null)

    def null_rows(self) -> Cond:
        """Conditioning of the unconditional branch of each sample, as it stands."""
        return self.null or self.solver.null(len(self), self.x_t.shape[1:])

    def ends(self) -> Int[Tensor, " B"]:
        """Position of each prompt's end token; raises `UsageError` where only embeddings were given."""
        return torch.tensor(self.model.family.ends(self.texts()))

    def texts(self) -> list[str]:
        """The prompts; raises `UsageError` where only embeddings were given."""
        if self.prompts is None:
            raise UsageError("This mitigation needs the prompts' words, and only embeddings were given.")
        return self.prompts

    def state(self, index: int) -> tuple[Float[Tensor, "B C h w"], Tensor]:
        """x_t and t of a step of the sampling as it stands; the first one costs nothing."""
        return (self.x_t, self.t) if index == 0 else self.solver.state(self, index)

    def select(self, index: Int[Tensor, " N"]) -> "Start":
        """The start of some of the samples; `put` brings it back."""
        null = None if self.null is None else rows(self.null, index)
        prompts = None if self.prompts is None else [self.prompts[i] for i in index]
        part = Start(
            self.solver, prompts, [self.seeds[i] for i in index], self.x_t[index], rows(self.cond, index), null
        )
        part.seen = [self.seen[i] for i in index]
        if self._first is not None:
            part.first = self._first.select(index)
        return part

    def put(self, index: Int[Tensor, " N"], part: "Start") -> None:
        """Take over what was changed in a part of the samples."""
        if part.prompts is not None and self.prompts is not None:
            for i, prompt in zip(index.tolist(), part.prompts, strict=True):
                self.prompts[i] = prompt
        self.step_changes += [_on(index, change) for change in part.step_changes]
        if not part.changed.any():
            return
        null = None
        if part.null is not None:
            null = _replaced(self.null_rows(), index, part.null)
        known = part.known if len(index) == len(self) else None
        before = self.changed.clone()
        x_t = self.x_t.index_copy(0, index.to(self.x_t.device), part.x_t)
        self.change(x_t=x_t, cond=_replaced(self.cond, index, part.cond), null=null, known=known)
        self.changed = before.index_fill(0, index, True)


def _replaced(cond: Cond, index: Tensor, part: Cond) -> Cond:
    """A conditioning with other rows; a key that only one of them has is zero, hence without effect, in the other."""
    keys = [*cond, *(k for k in part if k not in cond)]
    whole, new = ({k: c[k] if k in c else _zeros(c, o[k]) for k in keys} for c, o in ((cond, part), (part, cond)))
    return {k: v.index_copy(0, index.to(v.device), new[k].to(v.dtype)) for k, v in whole.items()}


def _zeros(cond: Cond, like: Tensor) -> Tensor:
    return like.new_zeros(len(next(iter(cond.values()))), *like.shape[1:])


def _on(index: Tensor, change: StepChange) -> StepChange:
    """A change of a step that acts on some of its samples."""

    def act(step: Step) -> None:
        part = step.select(index)
        change(part)
        step.native = step.native.index_copy(0, index.to(step.native.device), part.native)

    return act


def distinct(x_t: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first of each set of equal samples, and for each sample which set it is in."""
    inverse = torch.unique(x_t.flatten(1), dim=0, return_inverse=True)[1]
    order = torch.arange(len(x_t), device=x_t.device)
    first = torch.full((int(inverse.max()) + 1,), len(x_t), device=x_t.device).scatter_reduce(0, inverse, order, "amin")
    return first, inverse
