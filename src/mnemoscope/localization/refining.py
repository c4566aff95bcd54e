"""Refinement: every candidate that can be unblocked while the set stays good is unblocked, one after the other."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mnemoscope.job.batching import per_batch
from mnemoscope.localization.space import Blocked

Item = tuple[int, ...]  # candidates that one test unblocks: a layer's, a group's, or one
Search = Literal["exact", "grouped"]


@runtime_checkable
class SetJudge(Protocol):
    """What says whether a set of blocked neurons is still good, at some cost."""

    room: int  # sets that can be looked at in one pass, by a single seed each

    @property
    def seeds(self) -> int: ...  # by which a set needs to be good

    def good(self, blocked: Blocked) -> bool: ...

    def glance(self, sets: Sequence[Blocked]) -> list[bool]: ...

    def prepare(self, sets: Sequence[Blocked]) -> None: ...


@dataclass
class Current:
    """Candidates that are still blocked; one that was listed twice stays blocked until both are gone."""

    listed: Counter[int]

    @classmethod
    def of(cls, candidates: Iterable[int]) -> "Current":
        return cls(Counter(candidates))

    @property
    def blocked(self) -> Blocked:
        return frozenset(self.listed)

    def without(self, item: Item) -> "Current":
        return Current(self.listed - Counter(item))


def one_by_one(judge: SetJudge, current: Current, items: Sequence[Item]) -> Current:
    """Unblock each item in turn if the set stays good: the result of testing them strictly one after the other.

    Tests are made ahead, along the outcomes that are guessed (each as the last one): twice as many after guesses that
    were all right, half as many after a wrong one. They count up to and with the first wrong guess, after which the
    next ones begin from what is true.
    """
    place, guess, ahead = 0, False, 1
    while place < len(items):
        ahead = min(ahead, per_batch(judge.room, judge.seeds) if guess else judge.room)
        tests = _ahead(current, items[place : place + ahead], guess)
        seen = judge.glance([test.blocked for test in tests])
        if guess:
            judge.prepare([t.blocked for t in tests[: seen.index(False) if False in seen else None]])
        right = True
        for test in tests:
            outcome = judge.good(test.blocked)
            current, place, right = test if outcome else current, place + 1, outcome == guess
            if not right:
                break
        guess, ahead = (guess, 2 * ahead) if right else (not guess, max(1, ahead // 2))
    return current


def _ahead(current: Current, items: Sequence[Item], guess: bool) -> list[Current]:
    """The sets of the next tests, if each of them turns out as guessed."""
    tests = []
    for item in items:
        tests.append(current.without(item))
        current = tests[-1] if guess else current
    return tests


def halving(judge: SetJudge, current: Current, candidates: Sequence[int]) -> Current:
    """Unblock whole groups where the set stays good, and halve those where it does not, down to single neurons.

    About r log2(M / r) tests for r of M that stay, if a group can be unblocked whenever each of its members can.
    """
    groups = [tuple(candidates)] if candidates else []
    while groups:
        group = groups.pop()
        test = current.without(group)
        if judge.good(test.blocked):
            current = test
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return current


def refine(
    judge: SetJudge, layers: Sequence[Sequence[int]], search: Search, arrange: Callable[[Sequence[int]], Sequence[int]]
) -> tuple[Current, int]:
    """Candidates that stay, and how many of them a last check of the grouped search unblocked.

    First whole layers are tested, in the order given, then neurons in the order that `arrange` makes of them. The
    grouped search ends with `one_by_one` over what it kept, so that no neuron of the result can be unblocked alone
    when its turn comes.
    """
    current = Current.of(i for layer in layers for i in layer)
    current = one_by_one(judge, current, [tuple(layer) for layer in layers if layer])
    rest = arrange([i for layer in layers for i in layer if i in current.blocked])
    if search == "exact":
        return one_by_one(judge, current, [(i,) for i in rest]), 0
    halved = halving(judge, current, rest)
    checked = one_by_one(judge, halved, [(i,) for i in dict.fromkeys(rest) if i in halved.blocked])
    return checked, len(halved.blocked) - len(checked.blocked)
