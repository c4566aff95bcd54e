"""What a search for neurons found for one prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mnemoscope.run.rows import LocatedRow

Lists = dict[str, list[int]]  # indices of output channels by the name of their value projection, both in order


@dataclass(frozen=True)
class Located:
    """Neurons that a prompt's memorization needs, and a quantity before and after they are ablated.

    `value` names the quantity: a score, or "ssim", which is how alike the noise differences are. `initial_neurons` are
    those that the search began its refinement from; `layers` says where it looked, "seven" or "all"; `evaluations` are
    forward passes in samples, and `details` whatever else the search has to say, in plain types.
    """

    prompt: str
    neurons: Lists
    initial_neurons: Lists
    value: str
    before: float | None
    after: float | None
    layers: str
    evaluations: int
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of neurons found."""
        return sum(len(indices) for indices in self.neurons.values())

    def row(self) -> LocatedRow:
        """A line of a run: this record in plain types, with `ssim` where that is the quantity."""
        row = {
            "prompt": self.prompt,
            "neurons": self.neurons,
            "initial_neurons": self.initial_neurons,
            "value": self.value,
            "before": self.before,
            "after": self.after,
            "layers": self.layers,
            **({"ssim": self.after} if self.value == "ssim" else {}),
            "count": self.count,
            "evaluations": self.evaluations,
        }
        return cast(LocatedRow, {**row, **self.details})
