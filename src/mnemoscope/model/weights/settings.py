"""Settings in the configurations of components: each of the type that its class takes, and a solver that they make."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ConfigMixin, SchedulerMixin

from mnemoscope.errors import UsageError
from mnemoscope.model.schedule import check_levels
from mnemoscope.model.solvers import set_steps, swapped
from mnemoscope.model.weights.reading import first_line, read_config

PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_settings(cls: Any, folder: Path) -> None:
    """Raise `UsageError` for a setting of a component of diffusers that is of another type than its class takes.

    A text where there should be a truth value would hold as true, whatever it says. What is null, a list or an object
    is left to the class, and so are settings whose usual value is null.
    """
    if not isinstance(cls, type) or not issubclass(cls, ConfigMixin):
        return
    file = folder / str(getattr(cls, "config_name", ""))
    config = read_config(file)
    for name, parameter in inspect.signature(cls).parameters.items():
        wanted = parameter.annotation if parameter.annotation in PLAIN else type(parameter.default)
        if name in config and not _is_one(config[name], wanted, exact=issubclass(cls, SchedulerMixin)):
            value = repr(config[name])[:60]
            raise UsageError(f"{file} gives {name} as {value}; {cls.__name__} takes {PLAIN[wanted]} there.")


def _is_one(value: Any, wanted: Any, *, exact: bool) -> bool:
    """Whether a value is of a plain type; counts of networks may be written as any number unless `exact`."""
    if value is None or isinstance(value, list | dict) or wanted not in PLAIN:
        return True
    if wanted in (bool, str):
        return isinstance(value, wanted)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return is_number and (wanted is float or not exact or isinstance(value, int))


def foresee(folder: Path, index: Mapping[str, list[str]], scheduler: str, steps: int | None) -> None:
    """Make the solver of a folder's pipeline without the pipeline; raises `UsageError` for what a run would refuse."""
    import diffusers

    named = index.get("scheduler", [""])[-1]
    cls = getattr(diffusers, named, None)
    if cls is None or not (folder / "scheduler/scheduler_config.json").is_file():
        return
    made = solver_of(cls, folder / "scheduler")
    made = made if scheduler == "own" else swapped(scheduler, made)
    if steps is not None and not made.config.get("use_dynamic_shifting"):  # that is set by the size of the images
        set_steps(made, steps)


def solver_of(cls: Any, folder: Path) -> Any:
    """The solver of a folder by itself; raises `UsageError` for settings that it cannot have."""
    check_settings(cls, folder)
    try:
        made = cls.from_pretrained(folder)
    except Exception as e:  # diffusers raises many kinds for settings that it cannot have
        raise UsageError(f"The scheduler of {folder.parent} could not be made: {first_line(e)}") from e
    check_levels(made)
    return made
