"""Changes of a sampling that are open for as long as a block is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mnemoscope.errors import UsageError

EDIT_POINTS = ("prompts", "cond", "noise", "start", "step")


class Editable:
    """What samplings can be edited of, and the edits that are open."""

    def __init__(self) -> None:
        self._edits: list[tuple[str, Callable]] = []

    @contextmanager
    def edit(self, point: str, change: Callable) -> Iterator[None]:
        """Change what sampling does while the block is open; edits nest, and the inner one acts last.

        `point` is "prompts" (list -> list), "cond" (Cond -> Cond), "noise" (x_T -> x_T), "start" (Start -> None, which
        sees these three together and may change them) or "step" (Step -> None, which may assign `step.eps`). A
        trajectory keeps the edits that were open when it began.
        """
        if point not in EDIT_POINTS:
            raise UsageError(f"There is no edit point '{point}'; there are {', '.join(EDIT_POINTS)}.")
        entry = (point, change)
        self._edits.append(entry)
        try:
            yield
        finally:
            self._edits = [e for e in self._edits if e is not entry]  # an equal one may be open outside
