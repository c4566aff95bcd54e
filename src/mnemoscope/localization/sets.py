"""Sets of neurons made of those of many prompts: the most frequent ones, and random ones of the same sizes."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.model.ablation import Neurons, lists, union

Lists = dict[str, list[int]]


def most_frequent(sets: Iterable[Neurons], count: int) -> Lists:
    """The neurons that most sets have, over all layers; of those that equally many have, the ones seen first."""
    every = Counter((name, i) for neurons in sets for name, indices in lists(neurons).items() for i in indices)
    return _grouped(pair for pair, _ in every.most_common(count))


def most_frequent_per_layer(sets: Iterable[Neurons], count: int) -> Lists:
    """As many of the most frequent neurons from each layer."""
    counts: dict[str, Counter[int]] = {}
    for neurons in sets:
        for name, indices in lists(neurons).items():
            counts.setdefault(name, Counter()).update(indices)
    return lists({name: [i for i, _ in indices.most_common(count)] for name, indices in counts.items()})


def most_frequent_sets(sets: Iterable[Neurons], count: int) -> Lists:
    """The union of the complete sets that most prompts have; sets without a neuron are none."""
    plain = (lists(neurons) for neurons in sets)
    every = Counter(
        tuple((n, tuple(indices)) for n, indices in sorted(neurons.items())) for neurons in plain if neurons
    )
    return union([dict(key) for key, _ in every.most_common(count)])


def drawn_like(neurons: Neurons, widths: Mapping[str, int], key: str, without: Neurons) -> Lists:
    """Other neurons of the same layers, as many in each, drawn from those that `without` does not have.

    The draw depends on the key and the layer's name. Raises `UsageError` where a layer has too few others.
    """
    drawn, taken = {}, lists(without)
    for name, indices in lists(neurons).items():
        others = sorted(set(range(widths[name])) - set(taken.get(name, [])))
        if len(others) < len(indices):
            raise UsageError(
                f"{name} has {len(others)} neurons that were not found, and a control needs {len(indices)}."
            )
        drawn[name] = random.Random(f"{key}|{name}").sample(others, len(indices))
    return lists(drawn)


def of_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Rows of prompts of one kind, such as VM or TM; raises `UsageError` if there is none."""
    kept = [row for row in rows if str(row.get("kind")).casefold() == kind.casefold()]
    if not kept:
        known = ", ".join(sorted({str(row["kind"]) for row in rows if row.get("kind")})) or "none"
        raise UsageError(f"No located prompt is of the kind {kind}; the kinds there are: {known}.")
    return kept


def _grouped(pairs: Iterable[tuple[str, int]]) -> Lists:
    grouped: Lists = {}
    for name, i in pairs:
        grouped.setdefault(name, []).append(i)
    return lists(grouped)
