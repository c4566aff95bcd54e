"""The command line as one mechanism: what every command records, prints again, takes from a file and tries in turn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from mnemoscope import cli
from mnemoscope.cli import running
from mnemoscope.cli.asking import RUNNING, Asked


def leaves(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    command = command or typer.main.get_command(cli.app)
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from leaves(each, (*words, name))


LEAVES = dict(leaves())
NAMES = [" ".join(words) for words in LEAVES]


@pytest.fixture
def asked(mnemoscope, monkeypatch: pytest.MonkeyPatch):
    """What a command line is understood to ask for; nothing is done."""

    def parse(*words: object) -> Asked:
        caught: list[Asked] = []
        with monkeypatch.context() as patch:
            patch.setattr(running, "carry_out", lambda asked, *_, **__: caught.append(asked))
            code, _, err = mnemoscope(*words)
        assert code == 0, err
        return caught[0]

    return parse


def given(parameter: Any, kind: int) -> list[str]:
    """Words that give a parameter a value that is not its default; none for what says how a command runs."""
    if parameter.name in (*RUNNING, "help"):
        return []
    value = example(parameter, kind)
    if parameter.param_type_name == "argument":
        return [value]
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        return [max(parameter.secondary_opts, key=len) if parameter.default else name]
    return [name, value] + ([name, example(parameter, kind + 1)] if parameter.multiple else [])


def example(parameter: Any, kind: int) -> str:
    """A value of a parameter's type, among them texts that a shell or YAML would read otherwise."""
    if getattr(parameter, "metavar", None) == "NAME=VALUE":
        return ["a.b=[1, 2]", "score=noise norm", "x=y=z"][kind % 3]
    hint = parameter.type_descriptor.annotation
    hint = get_args(hint)[0] if get_args(hint) else hint
    texts = {
        int: [str((parameter.min or 0) + kind + 3)],
        float: ["0.5", "1e-05", "0.25"],
        Path: ["a b/c", "-", "./x/../y.json"],
    }
    listed = texts.get(hint, ["a b/c'd", "-x", 'é "\\'])
    return listed[kind % len(listed)]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_record_parse_to_the_same_parameters(asked, name: str, kind: int) -> None:
    command = LEAVES[tuple(name.split())]
    words = [word for p in command.params if p.param_type_name == "option" for word in given(p, kind)]
    arguments = [word for p in command.params if p.param_type_name == "argument" for word in given(p, kind)]
    first = asked(*name.split(), *words, "--", *arguments)
    assert first.command == name
    assert first.given == {p.name for p in command.params if given(p, kind)}  # nothing is forgotten
    second = asked(*first.record()["words"])
    assert second.values == first.values and second.record() == first.record()
