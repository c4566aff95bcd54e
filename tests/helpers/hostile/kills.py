"""Kills at the operations that write: what is left goes on to what would have been without one, byte for byte."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile.children import Ended, child, command, import_as
from hostile.verbs import Verb

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
DONE = (0, 1, 3, 4)  # exit codes of a command that came to its end
THERE = "is there already"  # what a command says that never writes over a file, killed after its last write
TIMES = {"seconds", "started", "seconds_per_image", "rewrite_seconds", "images_per_second", "evaluations_per_second"}
CLOCK = re.compile(
    rb'data-value="[^"]*"|\d[\d,.]*(?= s\b| min\b|&nbsp;s|</td>|</dd>)'
    rb"|20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?"
)


@dataclass
class Writes:
    """Operations that write into a folder, counted; at one of them the process is killed, its file torn or not."""

    folder: Path
    at: int | None = None
    tear: bool = False
    count: int = 0
    names: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Count from now on, to the end of this process."""
        self.sync = os.fsync
        os.fsync = self.fsync
        sys.addaudithook(self.hook)

    def hook(self, event: str, values: tuple[Any, ...]) -> None:
        if event not in EVENTS or event == "open" and not _writes(values):
            return
        if isinstance(values[0], str | bytes | os.PathLike) and str(self.folder) in os.fsdecode(values[0]):
            self.one(f"{event} {Path(os.fsdecode(values[0])).name}")

    def fsync(self, descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if str(self.folder) in name:
            self.one(f"fsync {Path(name).name}", Path(name) if os.path.isfile(name) else None)
        self.sync(descriptor)

    def one(self, name: str, file: Path | None = None) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            if self.tear and file is not None:
                os.truncate(file, max(0, file.stat().st_size - 9))
            os.kill(os.getpid(), signal.SIGKILL)


def _writes(values: tuple[Any, ...]) -> bool:
    mode, flags = values[1], values[2]
    return bool(set(mode or "") & set("wax+")) or isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


@dataclass(frozen=True)
class Found:
    """What a kill came to: the operation that it hit, and what was wrong afterwards; empty where nothing was."""

    verb: str
    at: int
    wrong: str


def killed(verb: str, words: Verb, folder: Path, kills: int, rng: random.Random) -> Iterator[Found]:
    """Kill a command at so many of its writes, each time let it go on to its end, and compare with a run without."""
    whole, place = folder / "whole" / "run", folder / "killed" / "run"
    _begin(whole, words)
    learnt = folder / "modules.json"
    counted = child(lambda: _counting(whole, learnt, command(words(whole))))
    if counted.code not in DONE or "writes:" not in counted.said:
        raise RuntimeError(f"{verb} does not end by itself: {counted.code} {counted.said[-2000:]}")
    import_as(json.loads(learnt.read_text()))
    expected = tree(whole)
    total = int(counted.said.rpartition("writes:")[2])
    for number, at in enumerate(sorted(rng.sample(range(1, total + 1), min(kills, total)))):
        _begin(place, words)
        tear, again = bool(number % 2), number % 5 == 4
        ended = [child(lambda: _dying(place, at, tear, command(words(place))))]  # noqa: B023 (forked at once)
        if again:  # a second kill, while it goes on
            second = rng.randrange(1, total)
            ended.append(child(lambda: _dying(place, second, False, command(words(place)))))  # noqa: B023
        last = child(command(words(place)))
        yield Found(verb, at, _wrong(ended, last, counted, expected, place))


def _wrong(ended: Sequence[Ended], last: Ended, counted: Ended, expected: dict[str, str], place: Path) -> str:
    if ended[0].code != -signal.SIGKILL:
        return f"it was not killed: {ended[0].code} {ended[0].said[-300:]}"
    if strange := [e for e in ended if e.hung or e.code not in (-signal.SIGKILL, *DONE)]:
        return f"it hung or broke: {strange[0].code} {strange[0].said[-300:]}"
    if last.code != counted.code and not (last.code == 2 and THERE in last.said):
        return f"it did not go on: {last.code} {last.said[-300:]}"
    found = tree(place)
    lost = [name for name in expected if name not in found]
    more = [name for name in found if name not in expected]
    other = [name for name in expected if name in found and found[name] != expected[name]]
    return "; ".join(
        f"{what} {names[:4]}" for what, names in (("lost", lost), ("left", more), ("other", other)) if names
    )


def _begin(place: Path, words: Verb) -> None:
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir(parents=True)
    words.prepare(place)


def _counting(folder: Path, learnt: Path, work: Callable[[], object]) -> None:
    writes = Writes(folder)
    writes.install()
    try:
        work()
    finally:
        learnt.write_text(json.dumps(sorted(sys.modules)))
        print(f"writes:{writes.count}")


def _dying(folder: Path, at: int, tear: bool, work: Callable[[], object]) -> None:
    Writes(folder, at, tear).install()
    work()


def tree(folder: Path) -> dict[str, str]:
    """Every file of a run by its path, with a hash of its content, times and the run's own path aside."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock" and p.suffix != ".lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(_timeless(p, folder)).hexdigest()[:16] for p in files}


def _timeless(file: Path, folder: Path) -> bytes:
    data = file.read_bytes()
    if file.name == "work.jsonl":
        lines = [json.loads(line) for line in data.splitlines()]
        return str(sum(line["evaluations"] for line in lines)).encode()
    if file.suffix == ".json":
        data = json.dumps(_without(json.loads(data)), sort_keys=True).encode()
    elif file.suffix == ".jsonl":
        data = b"\n".join(json.dumps(_without(json.loads(line)), sort_keys=True).encode() for line in data.splitlines())
    elif file.suffix == ".csv":
        data = _table(data.decode())
    elif file.suffix in (".html", ".md"):
        data = CLOCK.sub(b"T", data)
    return data.replace(str(folder).encode(), b"RUN")


def _table(text: str) -> bytes:
    rows = list(csv.DictReader(text.splitlines()))
    return json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in TIMES}
    return [_without(v) for v in value] if isinstance(value, list) else value
