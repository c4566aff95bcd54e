"""Images into files that others read: zips and folders with dataset.json, .npz, each with a manifest of hashes."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from mnemoscope.emm.data.images import Images
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import clean_beside, whole, write_whole

EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member of a zip, so that the same images make the same file


def write_images(images: Images, out: str | Path, *, about: Json | None = None) -> Path:
    """Write images with their labels and a manifest; the suffix of `out` says how.

    `.zip`, or a folder if there is no suffix: uncompressed PNGs `00000/img00000000.png` and `dataset.json` with
    [name, label] pairs, as EDM's tools write and read them. `.npz`: `images` [N, H, W, C], `labels`, `names`. `about`
    goes into the manifest, which is `manifest.json` inside a zip or a folder and beside a .npz. The same images make
    the same bytes. Raises `UsageError` for another suffix and for a place that is taken.
    """
    out = Path(out)
    writers: dict[str, Callable[[Images, Path, Json], None]]
    writers = {".zip": _write_zip, ".npz": _write_npz, "": _write_folder}
    if out.suffix not in writers:
        raise UsageError(f"{out} has the suffix {out.suffix}; give a .zip, an .npz or a folder.")
    if out.is_dir() and any(out.iterdir()) or out.is_file():
        raise UsageError(f"{out} is there already; give another place.")
    out.parent.mkdir(parents=True, exist_ok=True)
    clean_beside(out, out.with_suffix(".json"))
    writers[out.suffix](images, out, manifest(images) | {"about": about or {}})
    return out


def manifest(images: Images) -> Json:
    """What a set of images holds: shape, a hash of all, class sizes, empty classes, each image with its hash."""
    counts = images.counts()
    labels = [None] * len(images) if images.labels is None else images.labels.tolist()
    hashes = [hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() for pixels in images.pixels]
    rows = zip(images.names, hashes, labels, strict=True)
    return {
        "images": len(images),
        "shape": list(images.pixels.shape[1:]),
        "sha256": images.sha256(),
        "num_classes": images.num_classes,
        "class_counts": counts,
        "empty_classes": [number for number, count in enumerate(counts) if not count],
        "duplicates": len(hashes) - len(set(hashes)),
        "members": [{"name": name, "sha256": sha256, "label": label} for name, sha256, label in rows],
    }


def _members(images: Images, about: Json) -> list[tuple[str, Callable[[], bytes]]]:
    """Names in a zip or a folder, and what makes their bytes."""
    names = [f"{place // 1000:05d}/img{place:08d}.png" for place in range(len(images))]
    labels = None
    if images.labels is not None:
        labels = [[name, label] for name, label in zip(names, images.labels.tolist(), strict=True)]
    for name, row in zip(names, about["members"], strict=True):
        row["file"] = name
    table = {"labels": labels, "num_classes": images.num_classes}
    made: list[tuple[str, Callable[[], bytes]]] = [(name, partial(_png, images, k)) for k, name in enumerate(names)]
    return [*made, ("dataset.json", partial(_text, table)), ("manifest.json", partial(_text, about))]


def _png(images: Images, place: int) -> bytes:
    file = io.BytesIO()
    images.picture(place).save(file, format="PNG", compress_level=0, optimize=False)
    return file.getvalue()


def _text(value: Json) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _write_zip(images: Images, out: Path, about: Json) -> None:
    with whole(out) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, made in _members(images, about):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), made())


def _write_folder(images: Images, out: Path, about: Json) -> None:
    with whole(out) as unfinished:
        for name, made in _members(images, about):
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_bytes(made())


def _write_npz(images: Images, out: Path, about: Json) -> None:
    held = {"images": images.pixels.transpose(0, 2, 3, 1), "names": np.array(images.names, dtype=np.str_)}
    if images.labels is not None:
        held |= {"labels": images.labels, "num_classes": np.array(images.num_classes)}
    write_whole(out, lambda file: np.savez(file, **held))  # type: ignore[arg-type]
    write_whole(out.with_suffix(".json"), _text(about))
