"""The search for one prompt's memorization neurons: seeds, selection, refinement, similarity of the result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, islice
from typing import Any, Literal

import torch
from torch import Tensor

from mnemoscope.job.batching import per_batch
from mnemoscope.localization.blocking import Accept, Blocking
from mnemoscope.localization.differences import Differences, Setting
from mnemoscope.localization.importance import least_important_first
from mnemoscope.localization.refining import Current, Search, refine
from mnemoscope.localization.selection import Candidates, Pair, candidates, selections
from mnemoscope.localization.space import Blocked, Space
from mnemoscope.localization.statistics import Statistics, activations
from mnemoscope.methods.located import Located
from mnemoscope.model import ablation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.reading import Json

Order = Literal["backward", "forward", "gradient"]


@dataclass(frozen=True)
class Plan:
    """What a search does; the fields are the parameters of `mnemoscope.localizers.neurons`."""

    setting: Setting
    threshold: int | float
    pairwise_threshold: int | float | None = None
    refinement_threshold: int | float | None = None
    relative: int | float | None = None
    initial_theta: int | float | None = 5
    theta_step: int | float = 0.25
    min_theta: int | float = 1
    initial_k: int | None = 0
    factor: int | float = 0.0
    layers: ablation.Layers = "seven"
    order: Order = "backward"
    search: Search = "exact"
    batch: int = 16
    statistics: Statistics | None = None

    @property
    def same_seeds(self) -> int | float:
        return self.threshold if self.pairwise_threshold is None else self.pairwise_threshold

    @property
    def refined_below(self) -> int | float:
        return self.threshold if self.refinement_threshold is None else self.refinement_threshold

    @property
    def twice(self) -> bool:
        return self.setting.compat == "nemo"


@dataclass
class SimilarityJudge:
    """Whether a set is good: every seed's similarity as `accept` wants it."""

    blocking: Blocking
    accept: Accept
    room: int

    @property
    def seeds(self) -> int:
        return 1 if self.blocking.likeness.coupled else len(self.blocking.seeds)

    def good(self, blocked: Blocked) -> bool:
        return self.blocking.good(blocked, self.accept)

    def glance(self, sets: Sequence[Blocked]) -> list[bool]:
        return self.blocking.glance(sets, self.accept)

    def prepare(self, sets: Sequence[Blocked]) -> None:
        self.blocking.fetch((blocked, seed) for blocked in sets for seed in self.blocking.seeds)


@dataclass
class Prompted:
    """A search that has begun: the differences of one prompt, and what blocking does to them."""

    model: Denoiser
    prompt: str
    plan: Plan
    latents: Tensor | None = None
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        self.space = Space(self.model, self.plan.layers)

    @cached_property
    def blocking(self) -> Blocking:
        differences = Differences(self.model, [self.prompt], self.plan.setting, self.latents)
        likeness = self.plan.setting.likeness(differences.plain.shape)
        return Blocking(differences, self.space, likeness, self.plan.batch, self.plan.factor)

    @cached_property
    def room(self) -> int:
        """Sets in one pass that looks at a single seed of each, or at all where they are coupled."""
        seeds = len(self.blocking.seeds) if self.blocking.likeness.coupled else 1
        return per_batch(self.plan.batch, seeds)

    def seeds(self) -> tuple[list[int], float]:
        """Seeds that are more like another one than the threshold, and the greatest similarity of two."""
        best = alike_pairs(self.blocking.differences.plain, self.blocking.likeness)[1]
        return (best > self.plan.same_seeds).nonzero()[:, 0].tolist(), float(best.max())

    def select(self) -> tuple[Candidates, Pair, bool]:
        """The first selection that is enough, with its theta and k; the last one and False if none is."""
        plan = self.plan
        values = {name: v[0] for name, v in activations(self.model, [self.prompt], plan.layers).items()}
        unusual = plan.statistics.deviations(values) if plan.statistics else None
        steps = (plan.initial_theta, plan.theta_step, plan.min_theta, plan.initial_k)
        pairs = selections(*steps, max(self.space.widths.values()), plan.setting.compat)

        def enough(similarity: float, seed: int) -> bool:
            return similarity <= plan.threshold

        judge = SimilarityJudge(self.blocking, enough, self.room)
        while some := list(islice(pairs, self.room)):
            sets = [candidates(values, unusual, pair, plan.twice) for pair in some]
            seen = judge.glance([self.space.flat(each) for each in sets])
            for each, pair, promising in zip(sets, some, seen, strict=True):
                last = each, pair
                if promising and judge.good(self.space.flat(each)):
                    return each, pair, True
        return *last, False

    def refine(self, sets_of_neurons: Candidates, is_enough: bool) -> tuple[Current, int]:
        """Candidates that cannot be unblocked, and how many the last check of the grouped search unblocked."""
        layers = [[self.space.places[name].start + i for i in indices] for name, indices in sets_of_neurons.items()]
        layers = layers if self.plan.order == "forward" else layers[::-1]
        judge = SimilarityJudge(self.blocking, self._stays(self.space.flat(sets_of_neurons), is_enough), self.room)

        def arranged(rest: Sequence[int]) -> Sequence[int]:
            by_gradient = self.plan.order == "gradient"
            return least_important_first(self.blocking, frozenset(rest), rest) if by_gradient and rest else rest

        return refine(judge, layers, self.plan.search, arranged)

    def _stays(self, everything: Blocked, is_enough: bool) -> Accept:
        """Below the threshold, which is the similarity that was reached where no selection was enough."""
        if self.plan.relative is not None:
            limit, whole = self.plan.relative, self.blocking.values(everything)
            return lambda similarity, seed: abs(similarity - whole[seed]) < limit * whole[seed]
        below = self.plan.refined_below if is_enough else self.blocking.highest(everything)
        return lambda similarity, seed: similarity < below


def alike_pairs(plain: Tensor, likeness: Any) -> tuple[Tensor, Tensor]:
    """Similarity of every two seeds, in the order of their numbers, and each seed's greatest."""
    i, j = torch.tensor(list(combinations(range(len(plain)), 2))).T
    similarity = likeness(plain[i], plain[j])
    return similarity, torch.zeros(len(plain)).scatter_reduce(0, torch.cat([i, j]), similarity.repeat(2), "amax")


def find(model: Denoiser, prompt: str, plan: Plan, latents: Tensor | None = None) -> Located:
    """Neurons of one prompt; none if no two seeds are alike."""
    before = model.network_evaluations
    work = Prompted(model, prompt, plan, latents)
    kept, alike = work.seeds()
    details: Json = {"seeds_kept": kept, "seed_ssim": alike, "threshold": plan.threshold}
    neurons: dict[str, list[int]] = {}
    initial: dict[str, list[int]] = {}
    after = None
    if kept:
        work.blocking.keep(kept)
        sets_of_neurons, (theta, k), is_enough = work.select()
        initial_ssim = work.blocking.highest(work.space.flat(sets_of_neurons))
        current, corrected = work.refine(sets_of_neurons, is_enough)
        after = work.blocking.highest(current.blocked)
        neurons, initial = work.space.lists(current.blocked), work.space.lists(work.space.flat(sets_of_neurons))
        details |= {"initial_ssim": initial_ssim, "theta": theta, "k": k, "is_enough": is_enough}
        details |= {"corrected": corrected} if plan.search == "grouped" else {}
        listed = {"listed": current.listed.total(), "initial_listed": sum(map(len, sets_of_neurons.values()))}
        details |= listed if plan.twice else {}
    evaluations = model.network_evaluations - before
    return Located(prompt, neurons, initial, "ssim", 1.0 if kept else None, after, plan.layers, evaluations, details)
