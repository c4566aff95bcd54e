"""Hintersdorf et al. (NeMo): neurons that hold what is memorized are multiplied by a factor."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mnemoscope.errors import UsageError
from mnemoscope.localization import sets
from mnemoscope.localization.files import read_neurons
from mnemoscope.model import ablation
from mnemoscope.model.start import Start
from mnemoscope.registry import mitigation

Made = Callable[[str | None], sets.Lists | None]  # neurons of a prompt, None where it is not known
GLOBAL = {
    "most_frequent": sets.most_frequent,
    "per_layer": sets.most_frequent_per_layer,
    "subgroups": sets.most_frequent_sets,
}


@mitigation(
    paper="arXiv:2406.02366, section 3.3",
    cost="no evaluation more",
    strength=("factor", (0.75, 0.5, 0.25, 0.0)),
)
def neuron_ablation(
    start: Start,
    *,
    neurons: dict | str | Path,
    factor: int | float = 0.0,
    branch: Literal["both", "cond"] = "both",
    choose: Literal["own", "most_frequent", "per_layer", "subgroups"] = "own",
    stage: Literal["refined", "initial"] = "refined",
    count: int = 10,
    kind: str | None = None,
    control: int | None = None,
) -> None:
    """Multiplies neurons, output channels of cross-attention's value projections, by `factor` at every step.

    `neurons` is a run of localize, a JSON file, a table of NeMo's, or a set by itself, lists of indices by layer.
    `choose="own"` takes each prompt's set, found by its text whatever its spaces; a prompt that has none there is left
    as it is, and `seen` says so. The other choices make one set for every prompt: the `count` most frequent neurons of
    all layers or of each layer, or the union of the `count` most frequent complete sets, over the prompts of one `kind`
    if it is given. `stage` says which of a prompt's sets is meant. With `control`, a seed, as many other neurons are
    drawn from the same layers, none of which was found for the prompt, or for any. `branch="cond"` leaves the
    unconditional branch alone. Raises `UsageError` for a model without cross-attention and for neurons it lacks.
    """
    model = start.model
    listed = read_neurons(neurons, list(ablation.layers(model)))
    rows = listed if kind is None else sets.of_kind(listed, kind)
    key = "neurons" if stage == "refined" else "initial_neurons"
    if choose != "own" and count < 1:
        raise UsageError(f"neuron_ablation got count={count}; give 1 or more.")
    texts: Sequence[str | None] = start.prompts if start.prompts is not None else [None] * len(start)
    chosen = _own(rows, key) if choose == "own" else partial(_always, GLOBAL[choose]([r[key] for r in rows], count))
    located = [chosen(text) for text in texts]
    plain = [ablation.checked(model, each or {}) for each in located]
    if control is not None:
        widths, every = ablation.widths(model, "all"), ablation.union(r[key] for r in listed)
        for k, text in enumerate(texts):
            name, taken = (f"{control}|{text}", plain[k]) if choose == "own" else (f"{control}|", every)
            plain[k] = sets.drawn_like(plain[k], widths, name, taken)
    ablation.steer_start(start, ablation.gain(model, plain, factor), branch)
    for seen, each, asked in zip(start.seen, plain, located, strict=True):
        seen["neuron_ablation"] = {"neurons": ablation.count(each), "known": asked is not None}


def _always(neurons: sets.Lists, prompt: str | None) -> sets.Lists:
    return neurons


def _own(rows: Sequence[Mapping[str, Any]], key: str) -> Made:
    """Each prompt's own set, or the one set that there is for all."""
    if rows[0].get("prompt") is None:
        if len(rows) > 1:
            raise UsageError("Rows of neurons need prompts; give each row a prompt, or a single set for all.")
        return partial(_always, ablation.lists(rows[0][key]))
    by_text: dict[str, Any] = {}
    for row in rows:
        by_text.setdefault(_text(row["prompt"]), row[key])

    def own(prompt: str | None) -> sets.Lists | None:
        if prompt is None:
            raise UsageError("neuron_ablation finds a prompt's neurons by its words, and only embeddings were given.")
        return ablation.lists(by_text[_text(prompt)]) if _text(prompt) in by_text else None

    return own


def _text(prompt: str | None) -> str:
    return " ".join((prompt or "").split())
