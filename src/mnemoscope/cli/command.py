"""What every command has: options by subject, a settings file, a record of what was asked for, lists of values."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from mnemoscope.cli.asking import asked_of
from mnemoscope.cli.fields import OptionGroup, group_of
from mnemoscope.cli.helping import Command
from mnemoscope.cli.panels import RUN, of
from mnemoscope.cli.settings_file import configured

Function = Callable[..., Any]
CONTROL = "Control"


def _control(*names: str, text: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=CONTROL, **how)


Config = Annotated[
    Path | None,
    _control(
        "--config", text="YAML file with these options; the command line wins.", is_eager=True, callback=configured
    ),
]
Sweep = Annotated[
    list[str] | None,
    _control("--sweep", text="A run for each value of an option or parameter; repeatable.", metavar="NAME=A,B"),
]
DryRun = Annotated[bool, _control("--dry-run", text="Print the settings that would hold, and stop.")]
Json = Annotated[bool, _control("--json", text="Print the summary as JSON, and nothing else.")]
Quiet = Annotated[bool, _control("--quiet", text="Print nothing but errors.")]
COMMON: dict[str, tuple[Any, Any]] = {
    "sweep": (Sweep, None),
    "config": (Config, None),
    "dry_run": (DryRun, False),
    "as_json": (Json, False),
    "quiet": (Quiet, False),
}


SPREADING: dict[str, tuple[Any, Any]] = {
    "runner": (Annotated[str, of(RUN, "local, or ray for workers of a Ray cluster.")], "local"),
    "workers": (
        Annotated[int | None, of(RUN, "How many workers of Ray; as many as it has room for if none.", min=1)],
        None,
    ),
    "gpus_per_worker": (
        Annotated[float | None, of(RUN, "Share of a GPU for each; one where there are GPUs if none.", min=0.0)],
        None,
    ),
}


def command(
    application: typer.Typer, name: str | None = None, *, spreads: bool = False, **how: Any
) -> Callable[[Function], Function]:
    """Register a function as a command.

    A parameter of it that is a dataclass of options becomes one option for each field, and the function is given the
    dataclass. All commands have the options of `COMMON` as well, and `out` has a default where the function has none.
    One that `spreads` has those of `SPREADING`, too, and what it does goes to workers where they are asked for.
    """

    def register(function: Function) -> Function:
        application.command(name, cls=Command, **how)(_parsed(function, spreads))
        return function

    return register


def _parsed(function: Function, spreads: bool) -> Function:
    """The function of single options that is registered: it says what was asked for and calls the one of groups."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    groups = {name: group for name in parameters if (group := group_of(hints[name])) is not None}
    makes_run = "out" in parameters and parameters["out"].default is not None

    @wraps(function)
    def run(context: Any, **values: Any) -> Any:  # typer gives a context that is no typer.Context
        from mnemoscope.cli.running import carry_out

        def call(settings: Mapping[str, Any]) -> Any:
            given = {n: groups[n].made(settings) if n in groups else settings[n] for n in parameters}
            if not spreads:
                return function(**given)
            from mnemoscope.run.runner import RUNNERS, spread
            from mnemoscope.run.settings import one_of

            one_of("--runner", settings["runner"], RUNNERS)
            with spread(**{n: settings[n] for n in SPREADING}):
                return function(**given)

        return carry_out(asked_of(context, values), call, makes_run=makes_run, plans="dry_run" in parameters)

    made = {
        each.name: each
        for each in reversed(
            [*_parameters(parameters, hints, groups), *_added(SPREADING if spreads else {}), *_added(COMMON)]
        )
    }  # the first one wins
    first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = inspect.Signature([first, *reversed(made.values())])  # type: ignore[attr-defined]
    run.__annotations__ = {"context": typer.Context, **{name: each.annotation for name, each in made.items()}}
    return run


def _parameters(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], groups: Mapping[str, OptionGroup]
) -> Iterator[inspect.Parameter]:
    for name, parameter in parameters.items():
        if name in groups:
            yield from groups[name].parameters()
        else:
            default = None if name == "out" and parameter.default is parameter.empty else parameter.default
            yield parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name], default=default)


def _added(options: Mapping[str, tuple[Any, Any]]) -> Iterator[inspect.Parameter]:
    for name, (hint, default) in options.items():
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
