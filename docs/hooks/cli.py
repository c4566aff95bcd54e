"""A hook of mkdocs: the page of all commands is made from the commands whenever the site is built."""

from typing import Any

from mkdocs.structure.files import File, Files

from mnemoscope.cli.reference import reference


def on_files(files: Files, config: Any) -> Files:
    """Add the page `cli.md`."""
    files.append(File.generated(config, "cli.md", content=reference()))
    return files
