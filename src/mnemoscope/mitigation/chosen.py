"""Mitigations as a run names them: which ones, with which parameters, behind which threshold."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.methods import by_name as api
from mnemoscope.methods.gate import Gate
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.step import Seen


@dataclass(frozen=True)
class Mitigation:
    """A mitigation by name, with its parameters."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `UsageError` for a method or a parameter that there is not."""
        found = registry.stopping(self.name)
        registry.checked(found, registry.with_score(found, dict(self.params)))


@contextmanager
def mitigated(
    model: Denoiser, mitigations: Sequence[Mitigation], threshold: int | float | str | Path | None = None
) -> Iterator[list[Seen]]:
    """All of the mitigations at once; yields the list of what was seen and done, one entry a sample.

    They act in order, but for caption transforms, which come first: what they change is encoded anew.
    """
    ordered = sorted(mitigations, key=lambda m: registry.stopping(m.name).kind != "caption")
    with ExitStack() as stack:
        logs = [stack.enter_context(api.mitigate(model, m.name, threshold=threshold, **m.params)) for m in ordered]
        yield logs[0] if logs else []


def chosen(names: Sequence[str], parameters: Mapping[str, Any]) -> list[Mitigation]:
    """Mitigations by name with their parameters among all that were given, as `name=value` or `mitigation.name=value`.

    Raises `UsageError` as `registry.parted` does, and for a parameter that cannot be as it is given.
    """
    own = registry.parted([registry.stopping(name) for name in names], parameters, "--param ")
    found = [Mitigation(name, params) for name, params in zip(names, own, strict=True)]
    for each in found:
        each.check()
    return found


def readable(threshold: str | None) -> int | float | str | None:
    """A threshold option: NUMBER[:UNIT], or the file of a detection's summary; raises `UsageError` for neither."""
    if threshold is not None:
        Gate.of(threshold)
    try:
        return None if threshold is None else float(threshold)
    except ValueError:
        return threshold
