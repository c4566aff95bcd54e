"""Inputs that no one should have to expect, made of good ones: a reader reads them or answers with one sentence."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.children import Ended
from hostile.readers import readers
from hostile.verbs import Inputs

ZOO = (
    *(None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b]0;x\x07", "\u202e", "\ud83d"),
    *("9" * 5000, "../../etc/passwd", [], {}, [[]], [None], {"a": {"a": {}}}, "2024-99-99", [1, "x"], "\0"),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x9b]")


@dataclass(frozen=True)
class Attack:
    """A command on an input that was spoilt: who reads it, what was done to it."""

    reader: str
    how: str
    words: Sequence[object]


def judged(ended: Ended) -> str:
    """What is wrong with how a command took its input; empty where nothing is."""
    if ended.hung:
        return "it hung"
    if ended.code not in (0, 1, 2, 3, 4):
        return f"exit {ended.code}: {ended.said[-500:]}"
    if "Traceback (most recent call last)" in ended.said:
        return ended.said[-500:]
    if ended.code == 2 and CONTROL.search(ended.said.replace("\r", "")):
        return f"control characters: {ended.said[-200:]!r}"
    if ended.code == 2 and not ended.said.strip():
        return "it said nothing"
    return ""


# Bytes


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flipped(data: bytes, rng: random.Random) -> bytes:
    held = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        if held:
            held[rng.randrange(len(held))] = rng.randrange(256)
    return bytes(held)


def with_nul(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + b"\0" * rng.choice((1, 100)) + data[at:]


def doubled(data: bytes, rng: random.Random) -> bytes:
    return data + data[rng.randrange(len(data) + 1) :]


def deep(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"[", b'{"a":', b"a: [", b"- ", b"{")) * rng.choice((2000, 20_000))


def latin(data: bytes, rng: random.Random) -> bytes:
    return data + "café\n".encode("latin-1")


def escaped(data: bytes, rng: random.Random) -> bytes:
    return b"\x1b]0;owned\x07,\x9b31m\n" + data


def edited(data: bytes, rng: random.Random) -> bytes:
    """JSON, or lines of it, with one value replaced, one key dropped or one key more."""
    try:
        lines = data.decode().split("\n") if b"\n{" in data else [data.decode()]
    except UnicodeDecodeError:
        return flipped(data, rng)
    at = rng.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except ValueError:
        return flipped(data, rng)
    lines[at] = json.dumps(_changed(value, rng))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.25:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(ZOO)


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(cut, flipped, with_nul, doubled, deep, latin, escaped, edited, edited, edited, edited),
)


# Files that are none


def pipe(file: Path) -> None:
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.mkdir()


def circle(file: Path) -> None:
    file.symlink_to(file.name)


def device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def missing(file: Path) -> None:
    pass


def empty(file: Path) -> None:
    file.write_bytes(b"")


PLACES: tuple[Callable[[Path], None], ...] = (pipe, folder, circle, device, missing, empty)


def spoil(file: Path, rng: random.Random) -> str:
    """Do something to a file; what it was."""
    data = file.read_bytes()
    if rng.random() < 0.2:
        place = rng.choice(PLACES)
        file.unlink()
        place(file)
        return place.__name__
    how = rng.choice(BYTES)
    file.write_bytes(how(data, rng))
    return how.__name__


# Attacks


def attacks(inputs: Inputs, rng: random.Random, count: int) -> Iterator[Attack]:
    """So many spoilt inputs, every reader in turn, in an order of this seed."""
    known = readers(inputs)
    order = rng.sample(known, len(known))
    for number in range(count):
        reader = order[number % len(order)]
        place = inputs.folder / "attack"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        file = reader.make(place)
        how = spoil(file, rng)
        yield Attack(reader.name, how, reader.words(file, place))
