"""How the help of a command looks: its options by subject, each name whole whatever the terminal's width."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

REST = "Options"
LONGEST = 200  # characters of what is said of a command among others: all of its first sentence
SUBJECTS = {
    "Everything at once": "demo app audit report",
    "What is memorized": "detect explain localize extract generate measure membership emm",
    "Stopping it": "sweep rewrite repair recover",
    "Which method": "bench",
    "Training": "train watch experiment",
    "Training images": "index",
    "A verdict": "gate seal verify verify-list",
    "What there is": "list import",
}
FIRST = ("Arguments", "Input", "Model", "Method", "Sampling", "Comparison")
SOURCES = ("Input", "Model", "Comparison")  # the subjects whose options name what is read
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


def write_commands(group: Any, ctx: Any, formatter: Any) -> None:
    """The commands of a group, those of the whole program by subject, with all that their first sentences say."""
    rest = {name: group.get_command(ctx, name).get_short_help_str(LONGEST) for name in group.list_commands(ctx)}
    subjects = SUBJECTS if ctx.parent is None else {}
    sections = {
        subject: [(name, rest.pop(name)) for name in names.split() if name in rest]
        for subject, names in subjects.items()
    }
    for subject, records in {**sections, "Commands": list(rest.items())}.items():
        if records:
            with formatter.section(subject):
                formatter.write_dl(records)


def _refuse_twice(given: list[Any]) -> None:
    from mnemoscope.errors import UsageError

    for parameter in given:
        is_number = parameter.type_descriptor.annotation in (int, float)  # the last one counts: a script may add it
        is_source = getattr(parameter, "rich_help_panel", None) in SOURCES and not is_number
        times = given.count(parameter)
        if is_source and not parameter.multiple and times > 1:
            raise UsageError(f"{parameter.opts[0]} was given {times} times, and only one would be read; give it once.")


class Command(TyperCommand):
    """A command whose help has a section for each subject, and of which no source is lost to another of its name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; raises `UsageError` for a source that is given twice, of which only the last would be read."""
        if not ctx.resilient_parsing:
            _refuse_twice(self.make_parser(ctx).parse_args(args=list(args))[2])
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)


class CommandGroup(TyperGroup):
    """A group of commands, whose help has its options by subject and then its commands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)
        write_commands(self, ctx, formatter)
