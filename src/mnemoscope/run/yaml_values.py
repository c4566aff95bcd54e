"""YAML as people write settings in it: plain values of bounded size and depth, and nothing that it also can.

Dates stay the text that they are, so that a run records what was written; anchors, which a few lines multiply to
gigabytes, and tags, which make bytes and sets, are refused.
"""

from pathlib import Path
from typing import Any

import yaml

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import read_bytes, reason

MOST, DEEPEST = 2**20, 32  # bytes of a file, levels of nesting
TIMESTAMP = "tag:yaml.org,2002:timestamp"


class Loader(yaml.SafeLoader):
    """YAML's own loader, to which a date is text, and a name that is given twice a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value[:60]} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != TIMESTAMP]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(file: Path) -> Any:
    """The value of a YAML file; raises `UsageError` for one that is not readable or no plain value."""
    try:
        text = read_bytes(file, MOST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{file} could not be read as YAML: {reason(e)}; give a text file in UTF-8.") from e
    return yaml_value(text, str(file))


def yaml_value(text: str, where: str) -> Any:
    """The value of a YAML text; raises `UsageError` that begins with `where` for anything but plain values."""
    try:
        _look(text, where)
        value = yaml.load(text, Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        why = getattr(e, "problem", None) or str(e)
        raise UsageError(f"{where} could not be read as YAML{place}: {' '.join(str(why).split())[:200]}.") from e
    except UsageError:
        raise
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{where} holds a value that is none ({str(e)[:100]}); write plain numbers and text.") from e
    _check(value, where)
    return value


def _look(text: str, where: str) -> None:
    """Refuse what would grow or nest without end, before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"{where}, line {line}: *{event.anchor} repeats a value; write it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError(f"{where}, line {line}: it is nested more than {DEEPEST} deep; write it flatter.")


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _check(key, where)
            _check(each, where)
    elif isinstance(value, list):
        for each in value:
            _check(each, where)
    elif not isinstance(value, str | bool | int | float | None):
        raise UsageError(f"{where} holds {type(value).__name__}; write plain numbers, text and lists.")
