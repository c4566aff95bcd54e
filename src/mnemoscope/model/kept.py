"""What is computed once and kept as long as there is room: encodings of prompts above all."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from torch import Tensor
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
ROOM = 2**30  # bytes of tensors


class Kept:
    """Values by what they depend on, up to so many bytes of tensors in them; those used longest ago give way."""

    def __init__(self, room: int = ROOM) -> None:
        self.room, self.held, self.made = room, 0, 0
        self._values: OrderedDict[Hashable, object] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; made now, if it is not there."""
        if key not in self._values:
            self._values[key] = value = make()
            self.made += 1
            self.held += _bytes(value)
            while self.held > self.room and len(self._values) > 1:
                self.held -= _bytes(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return cast(T, self._values[key])


def _bytes(value: object) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
