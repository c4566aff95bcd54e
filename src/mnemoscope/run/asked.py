"""What a run was asked for: the command that makes it and all its parameters, which the run records."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mnemoscope.run.reading import Json

_ASKED: ContextVar[tuple[Json, Path] | None] = ContextVar("asked", default=None)


@contextmanager
def recorded(asked: Mapping[str, Any], out: Path) -> Iterator[None]:
    """Let the run that is opened in the block at `out`, and the parts of it, record this as what they were asked for.

    `asked` has the `command`, the `words` that ask for the same again, and by name all `parameters` that a run is known
    by when it goes on, and under `how` those that may differ then.
    """
    token = _ASKED.set((dict(asked), out.resolve()))
    try:
        yield
    finally:
        _ASKED.reset(token)


def now_recorded() -> tuple[Json, Path] | None:
    """What `recorded` was given around this, to be given again in another process."""
    return _ASKED.get()


def asked_of(folder: Path) -> dict[str, Json]:
    """What a run that is opened now in this folder was asked for, under `asked`; nothing where no command asks."""
    asked = _ASKED.get()
    return {} if asked is None or not folder.resolve().is_relative_to(asked[1]) else {"asked": asked[0]}


def both_known_by(folder: Path, before: Mapping[str, Any]) -> tuple[Json, Json]:
    """The parameters that a run is known by when it goes on, as its record has them and as they are now.

    They are those that both have: none where a command asks for more than this run, or did not make it.
    """
    here, asked = _ASKED.get(), before.get("asked")
    made = asked.get("parameters") if isinstance(asked, dict) else None
    if here is None or folder.resolve() != here[1] or not isinstance(made, dict):
        return {}, {}
    names = [name for name in here[0]["parameters"] if name in made]
    return {name: made[name] for name in names}, {name: here[0]["parameters"][name] for name in names}


def parameters(record: Mapping[str, Any]) -> Json:
    """All parameters of the command that made a run, from what its `run.json` holds.

    Runs that were made before commands were recorded, and from Python, have those among their settings.
    """
    asked = record.get("asked")
    parts = [record.get("settings"), *((asked.get("parameters"), asked.get("how")) if isinstance(asked, dict) else ())]
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
