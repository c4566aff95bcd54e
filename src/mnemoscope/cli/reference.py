"""The page of all commands and their options, made from the commands themselves."""

from collections.abc import Iterator
from typing import Any

from mnemoscope.cli.helping import REST, sections_of

HEAD = """# Commands

Made from the commands: every one with its options, by subject. `mnemoscope COMMAND --help` prints the same, and
`mnemoscope list` what may be given as a method. What all commands have in common is said once, in the end, and
explained on the page [of runs](runs.md).
"""
COMMON = "Control"  # the subject whose options all commands have


def reference(root: Any = None) -> str:
    """Markdown of every command: what it does, how it is called, its options in a table for each subject."""
    if root is None:
        from mnemoscope.cli import whole

        root = whole()
    commands = dict(leaves(root))
    pages = [part for words, command in commands.items() for part in _page(words, command)]
    first = next(iter(commands.values()))
    common = sections_of(first, first.make_context("", [], resilient_parsing=True))[COMMON]
    return "\n".join([HEAD, *pages, "## All commands\n", _table(COMMON, common)])


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from leaves(each, (*words, name))


def _page(words: tuple[str, ...], command: Any) -> Iterator[str]:
    context = command.make_context(words[-1], [], resilient_parsing=True)
    arguments_of = [p for p in command.params if p.param_type_name == "argument"]
    arguments = [(p.metavar or p.name.upper()) + ("..." if p.nargs == -1 else "") for p in arguments_of]
    yield f"## {' '.join(words)}\n\n{command.help}\n"
    yield f"```text\nmnemoscope {' '.join([*words, *arguments])} [OPTIONS]\n```\n"
    yield from (
        _table(name, each) for name, each in sections_of(command, context).items() if name not in (COMMON, REST)
    )


def _table(name: str, records: list[tuple[str, str]]) -> str:
    return "\n".join([f"| {name} | |", "|---|---|", *(f"| `{_cell(o)}` | {_cell(text)} |" for o, text in records), ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
