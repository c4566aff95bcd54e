"""Pictures of noise in every layout of files that people have, and files that are no pictures."""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mnemoscope.pictures import Unreadable, read_pictures

NAMES = ["a/1.png", "a/2.png", "a/10.png", "b.png"]


CAPTIONS = {"a/1.png": "one fox", "a/2.png": "two foxes", "a/10.png": "ten foxes", "b.png": "a bee"}


def image(seed: int, width: int = 12, height: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


DATA = {name: encoded(image(k)) for k, name in enumerate(NAMES)}


def written(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def tarred(file: Path, members: list[tuple[str, bytes | str]]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, data in members:
            content = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def zipped(file: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


LAYOUTS: dict[str, Callable[[], dict[str, str]]] = {
    "texts": lambda: {name[:-4] + ".txt": f" {text}\n" for name, text in CAPTIONS.items()},
    "captions.jsonl": lambda: {"captions.jsonl": lines(*({"file": n, "caption": c} for n, c in CAPTIONS.items()))},
    "metadata.jsonl": lambda: {
        "metadata.jsonl": lines({"file_name": "b.png", "text": "a bee"}),
        "a/metadata.jsonl": lines(*({"file_name": n[2:], "text": c} for n, c in CAPTIONS.items() if n != "b.png")),
    },
    "metadata.csv": lambda: {"metadata.csv": "file_name,text\n" + "".join(f'{n},"{c}"\n' for n, c in CAPTIONS.items())},
    "captions.json": lambda: {"captions.json": json.dumps({n: [c, "another"] for n, c in CAPTIONS.items()})},
    "dataset.json": lambda: {"dataset.json": json.dumps({"labels": [[n, c] for n, c in CAPTIONS.items()]})},
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def declared(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


HOSTILE = {
    "empty.png": (b"", "the file is empty"),
    "text.jpg": (b"hello", "text, not an image"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "drawing.png": (b'<?xml version="1.0"?>\n<svg xmlns="http://w3.org"/>', "an SVG drawing, not an image of pixels"),
    "noise.png": (bytes(range(256)), "not an image"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "text, not an image"),
    "cut.png": (encoded(image(0, 60, 60))[:2000], "truncated"),
    "cut.jpg": (encoded(image(0, 60, 60), "JPEG")[:900], "truncated"),
    "head.png": (DATA["b.png"][:20], "truncated"),
    "dot.png": (encoded(image(0, 1, 1)), "less than 4 pixels wide or high"),
    "line.png": (encoded(image(0, 400, 1)), "less than 4 pixels wide or high"),
    "bomb.png": (declared(20_000, 10_000), "more than 100 megapixels"),
    "101.png": (declared(10_100, 10_000), "more than 100 megapixels"),
    "huge.png": (declared(2**31 - 1, 2**31 - 1), "more than 100 megapixels"),
    "float.tiff": (encoded(image(0).convert("F"), "TIFF"), "pixels of 32 bits, whose range is not known"),
}  # fmt: skip


def reasons(source: Path | str) -> dict[str, str]:
    """For each picture of a source "ok", or why it cannot be read."""
    found = {}
    for picture in read_pictures(source):
        try:
            picture.image()
            found[picture.key] = "ok"
        except Unreadable as e:
            found[picture.key] = f"{e.status}: {e.reason}"
    return found
