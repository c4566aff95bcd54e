"""Inputs that no one should have to expect, made of good ones: a reader reads them or answers with one sentence."""

import io
import json
import os
import random
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.children import Ended
from hostile.verbs import QUICK, Inputs

ZOO = (
    *(None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b]0;x\x07", "\u202e", "\ud83d"),
    *("9" * 5000, "../../etc/passwd", [], {}, [[]], [None], {"a": {"a": {}}}, "2024-99-99", [1, "x"], "\0"),
)
ONE_STEP = (*QUICK[:1], 1, *QUICK[2:])
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


# Readers


@dataclass(frozen=True)
class Reader:
    """A kind of input: makes a good one in a folder and says which file is spoilt, and the command that reads it."""

    name: str
    make: Callable[[Path], Path]
    words: Callable[[Path, Path], Sequence[object]]


def attacks(inputs: Inputs, rng: random.Random, count: int) -> Iterator[Attack]:
    """So many spoilt inputs, every reader in turn."""
    known = readers(inputs)
    for number in range(count):
        reader = known[number % len(known)]
        place = inputs.folder / "attack"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        file = reader.make(place)
        how = spoil(file, rng)
        yield Attack(reader.name, how, reader.words(file, place / "out"))


def readers(inputs: Inputs) -> list[Reader]:
    """All kinds of input with the command that reads each."""
    made, prompts, refs = inputs.folder / "made", inputs.prompts, inputs.pictures
    detect = ("detect", "demo", "--prompts", prompts, *ONE_STEP)
    pixels = ("--features", "pixels")

    def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
        def make(place: Path) -> Path:
            (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            return place / name

        return make

    def run_file(run: str, name: str) -> Callable[[Path], Path]:
        return lambda place: shutil.copytree(made / run, place / run) / name

    def among(name: str, content: bytes) -> Callable[[Path], Path]:
        def make(place: Path) -> Path:
            shutil.copytree(refs, place / "pictures")
            return text(f"pictures/{name}", content)(place)

        return make

    drawn = ("generate", "demo", "--prompts", prompts, "--images", 1, *ONE_STEP, "--mitigate", "embedding_noise")
    measured = (*pixels, "--metrics", "replication", "--out")
    some = [
        Reader(
            f"prompts{end}",
            text(f"p{end}", held),
            lambda f, o: ["detect", "demo", "--prompts", f, *ONE_STEP, "--out", o],
        )
        for end, held in PROMPT_FILES.items()
    ]
    some += [
        Reader(name, text(f"i.{end}", held), lambda f, o, name=name: ["import", f, "--format", name, "--out", o])  # type: ignore[misc]
        for name, end, held in (("wen", "jsonl", WEN), ("layer6", "json", LAYER6), ("nemo", "csv", NEMO))
    ]
    picture, captions = next(refs.glob("*.png")).read_bytes(), (refs / "captions.jsonl").read_bytes()
    built = ("--shard-size", 2, "--out")
    some += [
        Reader("settings", text("s.yaml", SETTINGS), lambda f, o: [*detect, "--config", f, "--out", o]),
        Reader("threshold", run_file("detect", "summary.json"), lambda f, o: [*drawn, "--threshold", f, "--out", o]),
        Reader("emm sweep", text("e.yaml", EMM_SWEEP), lambda f, o: ["emm", "sweep", f, "--dry-run", "--out", o]),
        Reader("experiment", text("x.yaml", EXPERIMENT), lambda f, o: ["experiment", f, "--dry-run", "--out", o]),
        Reader(
            "picture", among("a.png", picture), lambda f, o: ["measure", f.parent, "--references", refs, *measured, o]
        ),
        Reader(
            "captions",
            among("captions.jsonl", captions),
            lambda f, o: ["measure", refs, "--references", f.parent, *measured, o],
        ),
        Reader("tar", text("a.tar", _tar(refs)), lambda f, o: ["index", "build", f, *pixels, "--out", o]),
        Reader("zip", text("a.zip", _zip(refs)), lambda f, o: ["index", "build", f, *pixels, "--out", o]),
        Reader("index", run_file("index", "meta.json"), lambda f, o: ["index", "search", f.parent, refs, "--out", o]),
        Reader("index info", run_file("index", "meta.json"), lambda f, o: ["index", "info", f.parent]),
        Reader(
            "shard",
            run_file("index", "shards/emb-00000.json"),
            lambda f, o: ["index", "build", refs, *pixels, *built, f.parents[1]],
        ),
        Reader(
            "model",
            lambda place: _model(place) / "model_index.json",
            lambda f, o: ["detect", f.parent, *detect[2:], "--out", o],
        ),
        Reader(
            "rewrite",
            run_file("explain", "rows.jsonl"),
            lambda f, o: ["rewrite", f.parent, "--score", "none", "--out", o],
        ),
        Reader(
            "drawn",
            run_file("generate", "rows.jsonl"),
            lambda f, o: ["measure", f.parent, "--references", refs, *measured, o],
        ),
    ]
    for run in ("detect", "explain", "generate", "measure"):
        for name in ("run.json", "rows.jsonl", "summary.json", "work.jsonl"):
            some.append(Reader(f"report of {run} {name}", run_file(run, name), lambda f, o: ["report", f.parent]))
    for name in ("run.json", "rows.jsonl", "work.jsonl"):
        again = ("--negatives", inputs.ordinary, *QUICK, "--batch-size", 2)
        some.append(
            Reader(f"resume {name}", run_file("detect", name), lambda f, o: [*detect[:4], *again, "--out", f.parent])  # noqa: B023
        )
    return some


def _model(place: Path) -> Path:
    from mnemoscope import demo

    return shutil.copytree(demo.MODEL, place / "model")


def _tar(pictures: Path) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for file in sorted(pictures.iterdir()):
            archive.add(file, file.name)
    return held.getvalue()


def _zip(pictures: Path) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for file in sorted(pictures.iterdir()):
            archive.write(file, file.name)
    return held.getvalue()


PROMPT_FILES = {
    ".txt": "a red fox\na boat\n",
    ".csv": 'prompt,label,url\na red fox,1,x\n"a, boat",0,y\n',
    ".jsonl": json.dumps({"prompt": "a red fox", "label": True}) + "\n" + json.dumps({"prompt": "a boat"}) + "\n",
    ".json": json.dumps([{"caption": "a red fox", "kind": "verbatim"}, {"caption": "a boat"}]),
}
SETTINGS = "seeds: 2\nguidance-scale: 3\nparam:\n  steps: 1\nlimit: 2\nseed: 1\n"
WEN = json.dumps({"text_noise_norm": [[1.0, 2.0]], "uncond_noise_norm": [[0.5, 0.5]], "prompt": "a"}) + "\n"
LAYER6 = json.dumps([{"prompt": "a fox", "attributions": [["a", 0.1], ["fox", 0.9]]}])
NEMO = (
    "Caption;URL;Initial Neurons;Initial SSIM;Refined Neurons;Refined SSIM\n"
    "a;u;[[1], [], [], [], [], [], []];0.5;[[1], [], [], [], [], [], []];0.4\n"
)
EMM_SWEEP = """\
name: tiny
question: does it run
data: {data: digits}
sizes: [20, 40]
levels: [{name: base}]
train: {steps: 4, samples: 4}
"""
EXPERIMENT = """\
name: tiny
question: does it run
model: demo
baseline: plain
base: {train: {steps: 2}}
arms: {plain: {}}
"""
