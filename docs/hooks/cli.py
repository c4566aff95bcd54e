"""A hook of mkdocs: what is said of commands is made from the commands whenever the site is built."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mnemoscope.cli import app
from mnemoscope.cli.helping import SUBJECTS
from mnemoscope.cli.reference import leaves, reference

TABLE = "<!-- commands -->"  # where docs/index.md has the table of all commands
BLOCK = re.compile(r"^```(?:bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?mnemoscope ([\w-]+)(?: ([\w-]+))?", re.MULTILINE)
ROOT = typer.main.get_command(app)
LEAVES = dict(leaves(ROOT))


def on_files(files: Files, config: Any) -> Files:
    """Add the page `cli.md`."""
    files.append(File.generated(config, "cli.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Lead from each block of commands to their options, and fill in the table."""
    if page.file.src_uri in ("cli.md", "errors.md"):
        return markdown
    return BLOCK.sub(lambda block: block[0] + options(block[1]), markdown).replace(TABLE, table())


def table() -> str:
    """Every command by subject, with its first sentence and a link to its options."""
    rows = ["| command | what it does |", "|---|---|"]
    for name in (name for names in SUBJECTS.values() for name in names.split() if name in ROOT.commands):
        first = next("-".join(words) for words in LEAVES if words[0] == name)
        rows.append(f"| [`mnemoscope {name}`](cli.md#{first}) | {ROOT.commands[name].get_short_help_str(200)} |")
    return "\n".join(rows)


def options(block: str) -> str:
    """A line with links to the options of the commands of a block; empty where it has none."""
    links = dict.fromkeys(link(words) for words in called(block))
    return f"\n\n*Options: {', '.join(links)}*{{ .options }}\n" if links else ""


def called(block: str) -> Iterator[tuple[str, ...]]:
    """The commands that a block calls, by the words that call them."""
    for first, second in COMMAND.findall(block):
        words = next((each for each in ((first, second), (first,), (first, "prompts")) if each in LEAVES), None)
        if words is not None:
            yield words


def link(words: tuple[str, ...]) -> str:
    """A command, linked to its options."""
    return f"[`{' '.join(words)}`](cli.md#{'-'.join(words)})"
