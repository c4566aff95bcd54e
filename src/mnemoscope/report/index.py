"""An index, and its duplicates, in the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mnemoscope.errors import plain
from mnemoscope.pictures.counting import sentences
from mnemoscope.report.command import command_line
from mnemoscope.report.tables import table
from mnemoscope.report.text import counted
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.search.segments import segments
from mnemoscope.search.shards import Damaged, Index

MISSING = {
    "unreadable": "could not be read",
    "missing": "listed by the source, which does not hold them",
    "removed": "taken out",
}


def print_index(folder: Path, console: Console) -> int:
    """Print what an index holds; returns how many of its shards are not there or damaged."""
    index = Index.open(folder)
    damaged = {shard.name: reason for shard in index.shards if (reason := _damage(shard))}
    meta, identity = index.meta, index.identity
    size = sum(file.stat().st_size for file in (folder / "shards").glob("emb-*"))
    _say(console, f"{counted(index.count, 'image')} of {index.listed:,} listed are indexed.", "bold")
    for segment in segments(meta):
        _say(console, f"Source: {segment['source']}")
    _say(console, f"Features: {identity.features}, preset {identity.preset}, weights {identity.weights}")
    width = f"{identity.dimension} dimensions in {meta['dtype']}"
    _say(
        console, f"Shards: {len(index.shards):,} of up to {meta['shard_size']:,} images, {width}, {size / 1e6:,.1f} MB"
    )
    if (folder / "build.json").is_file() and (line := command_line(read_json(folder / "build.json"))):
        is_as_built = not meta.get("removed") and (not meta.get("added") or line.startswith("mnemoscope index merge"))
        _say(console, f"Command that {'builds it again' if is_as_built else 'it began with'}: {line}")
    for line in sentences(meta):
        _say(console, line)
    for status, said in MISSING.items():
        if number := meta.get("statuses", {}).get(status):
            _say(console, f"{status.capitalize()}: {counted(number, 'image')} {said}")
    if reasons := meta.get("reasons"):
        rows = [[f"{number:,}", reason] for reason, number in reasons.items()]
        console.print(table([("images", "right"), ("why they are not indexed", "fill")], rows, wrap=True))
    for name, reason in list(damaged.items())[:10]:
        _say(console, f"Shard {name}: {reason}", "red")
    if damaged:
        _say(console, f"{counted(len(damaged), 'shard')} to mend: give the same index build command again.", "red")
    return len(damaged)


def print_duplicates(summary: Json, out: Path, console: Console) -> None:
    """Print how many images are there more than once, and the largest groups."""
    share = f"{summary['share']:.2%} of {counted(summary['pictures'], 'image')}"
    groups = counted(summary["groups"], "group")
    _say(console, f"{summary['duplicated']:,} images, {share}, have a near-duplicate: {groups}.", "bold")
    if chained := summary.get("chained"):
        _say(
            console,
            f"{counted(chained, 'image')} of these are less alike to the first of their group and linked through "
            "others; --linkage star keeps such apart.",
        )
    if summary["largest"]:
        rows = [[f"{each['count']:,}", each["key"]] for each in summary["largest"]]
        console.print(table([("images", "right"), ("first of the group", "fill")], rows))
    _say(console, f"Lists: {out / 'duplicates.parquet'}")


def _damage(shard: Any) -> str | None:
    try:
        shard.check()
    except Damaged as e:
        return str(e)
    return None


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(plain(text), style), soft_wrap=True)
