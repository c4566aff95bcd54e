"""Images drawn by all processes together, each a share of the seeds; the first process asks and is given all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from jaxtyping import Int, UInt8


@dataclass(frozen=True)
class DrawnShare:
    """Images of some seeds, their labels, and the network evaluations that they took, one an image and step."""

    pixels: UInt8[np.ndarray, "N C H W"]
    labels: Int[np.ndarray, " N"] | None
    evaluations: int


Draw = Callable[[Any, Sequence[int]], DrawnShare]


class Crew:
    """The processes that draw. `draw` is given what to draw from and seeds, the same on all of them."""

    def __init__(self, draw: Draw, process: int = 0, processes: int = 1) -> None:
        self.draw, self.process, self.processes = draw, process, processes

    @property
    def is_first(self) -> bool:
        """Whether this is the process that asks; the others `serve`."""
        return self.process == 0

    def __call__(self, source: Any, seeds: Sequence[int]) -> DrawnShare:
        """The images of these seeds, in their order; for the first process."""
        if self.processes == 1:
            return self.draw(source, seeds)
        broadcast_object_list([(source, list(seeds))])
        return whole(gather_object([self._own(source, seeds)]), len(seeds))

    def serve(self) -> None:
        """Draw what the first process asks for until it has all."""
        while True:
            asked = [None]
            broadcast_object_list(asked)
            if asked[0] is None:
                return
            gather_object([self._own(*asked[0])])

    def dismiss(self) -> None:
        """Let the others go."""
        if self.processes > 1 and self.is_first:
            broadcast_object_list([None])

    def _own(self, source: Any, seeds: Sequence[int]) -> DrawnShare | None:
        share = seeds[self.process :: self.processes]
        return self.draw(source, share) if share else None


def whole(shares: Sequence[DrawnShare | None], count: int) -> DrawnShare:
    """What the processes drew of so many seeds, put back into their order."""
    first = next(share for share in shares if share is not None)
    pixels = np.empty((count, *first.pixels.shape[1:]), np.uint8)
    labels = None if first.labels is None else np.empty(count, np.int64)
    for process, share in enumerate(shares):
        if share is not None:
            pixels[process :: len(shares)] = share.pixels
            if labels is not None and share.labels is not None:
                labels[process :: len(shares)] = share.labels
    return DrawnShare(pixels, labels, sum(share.evaluations for share in shares if share is not None))


@contextmanager
def crew(draw: Callable[[str], Draw], device: str) -> Iterator[Crew]:
    """The processes that `torchrun` or `accelerate launch` started, or this one alone; `draw` is made for a device."""
    from mnemoscope.run.trackers import released
    from mnemoscope.training.processes import is_launched

    if not is_launched():
        yield Crew(draw(device))
        return
    with released():
        state = PartialState(cpu=device == "cpu")
        made = Crew(draw(str(state.device)), state.process_index, state.num_processes)
        try:
            yield made
        finally:
            made.dismiss()
