"""How the help of a command looks: its options by subject, each name whole whatever the terminal's width."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

REST = "Options"
FIRST = ("Arguments", "Input", "Model", "Method", "Sampling", "Comparison")
LAST = ("Run", "Control", REST)


def sections_of(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """The options of a command with what is said of each, by subject, the same order of subjects in all commands."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if (record := parameter.get_help_record(ctx)) is not None:
            name = "Arguments" if parameter.param_type_name == "argument" else parameter.rich_help_panel or REST
            sections.setdefault(name, []).append(record)
    others = [name for name in sections if name not in (*FIRST, *LAST)]
    return {name: sections[name] for name in (*FIRST, *others, *LAST) if name in sections}


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """The options of a command in one section a subject."""
    for name, records in sections_of(command, ctx).items():
        with formatter.section(name):
            formatter.write_dl(records)


class Command(TyperCommand):
    """A command whose help has a section for each subject."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)


class CommandGroup(TyperGroup):
    """A group of commands, whose help has its options by subject and then its commands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
