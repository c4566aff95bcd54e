"""A model on its way to another process: opened there from what it was opened from here, once in each process."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.edits import Editable
from mnemoscope.run.reading import Json
from mnemoscope.run.records import differing

MOST = 2  # models that a process keeps open: those of one run
_OPEN: OrderedDict[str, Any] = OrderedDict()


class Sendable:
    """What is pickled as the words that it was opened by, or as it is where nobody opened it from a file.

    Edits that are open do not go along: raises `UsageError` where there are some. Nor does what a model has kept, such
    as encodings of prompts.
    """

    asked: Mapping[str, Any] | None = None  # what `Denoiser.from_pretrained` was given beside the name
    drawn_by: tuple[tuple[int, int] | None, Mapping[str, Any] | None] = (None, None)  # size, and arguments of the call

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        model: Any = self
        if _is_edited(model):
            raise UsageError(
                f"{model.source} is edited now, which workers would not see; end the edit, or run it here."
            )
        state = {"at_once": model.at_once, "negative_prompt": model.family.negative_prompt}
        if self.asked is None:
            return _rebuilt, (type(self), model.pipe, model.source, *self.drawn_by, state)
        asked = {**self.asked, "device": model.device.type}
        return _reopened, (type(self), model.source, asked, _about(model), state)


def _is_edited(model: Any) -> bool:
    modules: Mapping[str, nn.Module] = model.modules
    each = (part for module in modules.values() for part in module.modules())
    return isinstance(model, Editable) and bool(
        model._edits or any(part._forward_hooks or part._forward_pre_hooks for part in each)
    )


def _rebuilt(kind: Any, pipe: Any, source: str, size: Any, call: Any, state: Mapping[str, Any]) -> Any:
    return _in_state(kind(pipe, source, size=size, call=call), state)


def _about(model: Any) -> Json:
    """What it is recognised by, but for what libraries said when it was opened and the text that it is steered by."""
    return {k: v for k, v in model.describe().items() if k not in ("warnings", "negative_prompt")}


def _reopened(kind: Any, source: str, asked: Mapping[str, Any], about: Json, state: Mapping[str, Any]) -> Any:
    """The model that this process has open already, or opened now; raises `UsageError` where it is another one."""
    from mnemoscope.model.loading import quiet

    key = json.dumps([source, asked, about], default=str)
    if key not in _OPEN:
        while len(_OPEN) >= MOST:
            _OPEN.popitem(last=False)
        quiet()
        model = kind.from_pretrained(source, **asked)
        if differs := differing(about, _about(model)):
            raise UsageError(
                f"A worker opened another model as {source} ({differs}); let all machines have the same files, and "
                "change nothing of a model that is open."
            )
        _OPEN[key] = model
    _OPEN.move_to_end(key)
    return _in_state(_OPEN[key], state)


def _in_state(model: Any, state: Mapping[str, Any]) -> Any:
    model.at_once = state["at_once"]
    model.family.negate(state["negative_prompt"])
    return model
