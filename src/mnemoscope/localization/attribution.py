"""What each neuron adds to a score, from gradients with respect to what it is multiplied by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import ablation
from mnemoscope.model.ablation import Branch, Layers
from mnemoscope.model.cond import rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import value_places
from mnemoscope.model.room import GRAPH
from mnemoscope.model.schedule import Level
from mnemoscope.model.step import Step, refuse_null_branch

Value = Callable[[Step, Int[Tensor, " B"]], Float[Tensor, " B"]]  # of a step, told which prompt each sample is of


@dataclass(frozen=True)
class State:
    """Latents of every prompt and seed at one timestep, prompts first: what a score is looked at on."""

    index: int
    t: Tensor
    x_t: Float[Tensor, "P S C h w"]
    levels: Sequence[Level]  # of the sampling's steps


class NeuronProbe:
    """A score of some prompts as a function of what their neurons are multiplied by, the mean over fixed states.

    A gain is a row over all neurons, as in `mnemoscope.model.ablation`: 0 leaves a neuron alone, -1 blocks it.
    `evaluations` and `gradients` count forward passes and backward passes in samples, for each prompt.
    """

    def __init__(
        self,
        model: Denoiser,
        prompts: Sequence[str],
        states: Sequence[State],
        value: Value,
        *,
        layers: Layers = "all",
        branch: Branch = "both",
        factor: int | float = 0.0,
        guidance_scale: int | float | None = None,
        batch: int = 16,
    ) -> None:
        self.model, self.states, self.value = model, list(states), value
        self.branch, self.factor, self.batch = branch, factor, batch
        self.guidance_scale = guidance_scale = model.family.guidance(guidance_scale)
        self.cond = model.family.guided(model.encode(prompts, states[0].x_t.shape[2:]), guidance_scale)
        searched = ablation.layers(model, layers)
        places = value_places(model.network)
        self.width = max(place.stop for place in places.values())
        self.searched = torch.zeros(self.width, dtype=torch.bool)
        for name in searched:
            self.searched[places[name]] = True
        self.places = places
        self.evaluations = torch.zeros(len(prompts))
        self.gradients = torch.zeros(len(prompts))

    def neurons(self, places: Sequence[int]) -> dict[str, list[int]]:
        """Neurons at these places of a row, in plain types and in order."""
        places_of = {
            n: [p - where.start for p in sorted(places) if p in range(*where.indices(self.width))]
            for n, where in self.places.items()
        }
        return {name: indices for name, indices in places_of.items() if indices}

    def place(self, name: str, neuron: int) -> int:
        """Where a neuron lies in a row."""
        return int(self.places[name].start) + neuron

    @property
    def nothing(self) -> Float[Tensor, "P N"]:
        """Gains that leave every neuron alone."""
        return torch.zeros(len(self.evaluations), self.width)

    @property
    def everything(self) -> Float[Tensor, "P N"]:
        """Gains that multiply every neuron of every layer by the factor, searched or not."""
        return self.nothing + (self.factor - 1)

    def gain(self, places: Sequence[Sequence[int]]) -> Float[Tensor, "P N"]:
        """Gains that multiply each prompt's neurons at these places by the factor."""
        multiplied = torch.zeros(len(places), self.width)
        for row, set_places in enumerate(places):
            multiplied[row, list(set_places)] = self.factor - 1
        return multiplied

    @torch.no_grad()
    def values(self, gain: Float[Tensor, "P N"], prompts: Sequence[int] | None = None) -> Float[Tensor, " P"]:
        """The score of each prompt, of those numbered `prompts` if not all, under a gain of its own."""
        return self._mean(gain, self._numbers(prompts), lambda score, leaf: score, graph=False)

    def drops(self, points: int = 4) -> Float[Tensor, "P N"]:
        """By how much blocking takes the score down, neuron by neuron, in units of the score.

        The gradient is averaged over `points` midpoints of the straight path from nothing blocked to everything that is
        searched (integrated gradients); a prompt's values sum to the drop that blocking all of these really has, up to
        the number of points. Places that are not searched are 0.
        """
        if points < 1:
            raise UsageError(f"{points} points of the path were asked for; give 1 or more.")
        every = self._numbers(None)
        total = torch.zeros(len(every), self.width)
        for k in range(points):
            gain = (self.factor - 1) * (k + 0.5) / points * self.searched.float()
            total += self._mean(gain.expand(len(every), -1), every, self._gradient, graph=True)
        return (1 - self.factor) * total / points * self.searched

    def _gradient(self, score: Tensor, gain: Tensor) -> Tensor:
        if not score.requires_grad:
            raise UsageError("The score does not depend on any neuron there, so that it has no gradient to rank them.")
        return torch.autograd.grad(score.sum(), gain)[0]  # of each sample's own score: samples do not mix

    def _numbers(self, prompts: Sequence[int] | None) -> Int[Tensor, " P"]:
        return torch.arange(len(self.evaluations)) if prompts is None else torch.tensor(list(prompts))

    def _mean(
        self, gain: Tensor, prompts: Int[Tensor, " P"], made: Callable[[Tensor, Tensor], Tensor], *, graph: bool
    ) -> Float[Tensor, "P *shape"]:
        """Mean over the states of what `made` makes of each sample's score and gain, linked by a graph or not."""
        room, total, seeds = max(1, self.batch // (GRAPH if graph else 1)), [], self.states[0].x_t.shape[1]
        pairs = torch.cartesian_prod(torch.arange(len(prompts)), torch.arange(seeds)).reshape(-1, 2)
        for state in self.states:
            parts = []
            for part in pairs.split(room):
                row, of_prompt = part[:, 0], prompts[part[:, 0]]
                leaf = gain[row].to(self.model.device).requires_grad_(graph)
                before = self.model.network_evaluations
                with torch.set_grad_enabled(graph):
                    score = self.value(self._step(state, of_prompt, part[:, 1], leaf), of_prompt)
                parts.append(made(score, leaf).detach().float().cpu())
                each = (self.model.network_evaluations - before) / len(part)
                self.evaluations.index_add_(0, of_prompt, torch.full((len(part),), each))
                self.gradients.index_add_(0, of_prompt, torch.full((len(part),), each * graph))
            total.append(torch.cat(parts).reshape(len(prompts), seeds, *parts[0].shape[1:]).mean(1))
        return torch.stack(total).mean(0)

    def _step(self, state: State, of_prompt: Int[Tensor, " B"], seeds: Int[Tensor, " B"], gain: Tensor) -> Step:
        """What the network predicts at a state, each sample under its own gain, with a graph if the gain wants one."""
        model, x_t = self.model, state.x_t[of_prompt, seeds].to(self.model.device)
        cond = ablation.steer(rows(self.cond, of_prompt.to(self.model.device)), gain)
        null = None
        if not model.family.unguided:
            null = model.null(len(x_t), x_t.shape[1:])
            null = ablation.steer(null, gain) if self.branch == "both" else null
            null_branch: Callable[[], Tensor] = partial(model.predict, x_t, state.t, null)
        else:
            null_branch = refuse_null_branch(model.source, model.family.unguided)
        native_cond = model.predict(x_t, state.t, cond)
        about = (state.index, state.t, x_t, cond, self.guidance_scale, native_cond, null_branch)
        step = model.step(*about, levels=state.levels)
        step.null = null
        return step


@dataclass(frozen=True)
class Smallest:
    """Places of the smallest set found and of the first one that was enough, their values, and how many were tried."""

    places: list[int]
    initial: list[int]
    value: float
    reached: bool
    tests: int


def smallest(
    probe: NeuronProbe, drops: Float[Tensor, "P N"], before: Sequence[float], thresholds: Sequence[float], most: int
) -> list[Smallest]:
    """For each prompt the shortest beginning of the ranking whose blocking brings the score to the threshold.

    Beginnings of 1, 2, 4, ... neurons are tried until one is enough, then the last gap is halved down to one neuron:
    the result is enough, and one neuron less is not. Neurons that are predicted to raise the score are not taken, and
    no more than `most`; where none is enough the set of the lowest score tried is returned.
    """
    searches = [
        _Search(
            torch.argsort(drops_of, descending=True, stable=True)[: min(most, int((drops_of > 0).sum()))].tolist(), b, t
        )
        for drops_of, b, t in zip(drops, before, thresholds, strict=True)
    ]
    while going := [k for k, s in enumerate(searches) if s.size is not None]:
        gain = probe.gain([searches[k].ranked[: searches[k].size] for k in going])
        for k, value in zip(going, probe.values(gain, going).tolist(), strict=True):
            searches[k].tell(value)
    return [search.result() for search in searches]


class _Search:
    """Doubling, then halving, for one prompt; `size` is the next beginning to try, None when it is done."""

    def __init__(self, ranked: list[int], before: float, threshold: float) -> None:
        self.ranked, self.threshold = ranked, threshold
        self.seen = {0: before}
        self.low, self.first = 0, 0
        self.high: int | None = 0 if before <= threshold else None
        self.size: int | None = 1 if ranked and self.high is None else None

    def tell(self, value: float) -> None:
        size = self.size
        assert size is not None
        self.seen[size] = value
        if value <= self.threshold:
            self.high, self.first = size, self.first or size
        else:
            self.low = size
        if self.high is None:
            self.size = min(2 * size, len(self.ranked)) if size < len(self.ranked) else None
        else:
            self.size = (self.low + self.high) // 2 if self.high - self.low > 1 else None

    def result(self) -> Smallest:
        reached = self.high is not None
        size = self.high if self.high is not None else min(self.seen, key=lambda k: (self.seen[k], k))
        ranked, initial = self.ranked, self.first if reached else size
        return Smallest(ranked[:size], ranked[:initial], self.seen[size], reached, len(self.seen) - 1)
