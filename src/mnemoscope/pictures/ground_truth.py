"""Several true images of each prompt: `NAME/NAME.jsonl` with caption, index, url, and `NAME/gt_images/INDEX/*.png`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from mnemoscope.errors import UsageError
from mnemoscope.pictures.captions import FILES, Said, said_of
from mnemoscope.pictures.columns import short

PLACE = re.compile(r"(?:(.+)/)?gt_images/([^/]+)/[^/]+")
Images = dict[str, list[str]]  # by the index of their prompt


def ground_truth(
    read: Callable[[str], bytes], sizes: Mapping[str, int], images: Iterable[str], root: str, column: str | None
) -> tuple[dict[str, Said], dict[str, str]]:
    """What the table of such a set says of its images, and why prompts without any have none, both by name.

    `root` is the name of the folder that all names are relative to. Nothing for files that lie in another way. Raises
    `UsageError` for a table without an index in each row.
    """
    sets: dict[str, Images] = {}
    for name in images:
        if matched := PLACE.fullmatch(name):
            sets.setdefault(matched[1] or "", {}).setdefault(_number(matched[2]), []).append(name)
    by_file: dict[str, Said] = {}
    dead: dict[str, str] = {}
    for home, by_index in sets.items():
        if file := _table(home, sizes, root):
            for index, each in _rows(file, read(file), column):
                by_file |= dict.fromkeys(by_index.get(index, ()), each)
                if index not in by_index:
                    lost = PurePosixPath(home, "gt_images", index).as_posix()
                    by_file[lost], dead[lost] = each, "no true image of this prompt is there"
    return by_file, dead


def _table(home: str, sizes: Mapping[str, int], root: str) -> str | None:
    """The table of a set: the one that has the folder's name, or the only one that lies in the folder."""
    lying = [n for n in sizes if n.lower().endswith(".jsonl") and PurePosixPath(n).parent == PurePosixPath(home)]
    table = PurePosixPath(home, f"{PurePosixPath(home).name or root}.jsonl").as_posix()
    others = [n for n in lying if PurePosixPath(n).name not in FILES]
    if table in lying:
        return table
    return others[0] if len(others) == 1 else None


def _rows(file: str, data: bytes, column: str | None) -> list[tuple[str, Said]]:
    try:
        lines = [json.loads(line) for line in data.decode("utf-8-sig").split("\n") if line.strip()]
        return [(_number(str(row["index"])), said_of(row, column)) for row in lines]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        problem = short(f"{type(e).__name__}: {e}")
        raise UsageError(f"{file} is no table of true images ({problem}); write index and caption in each row.") from e


def _number(index: str) -> str:
    return str(int(index)) if index.isdecimal() else index
