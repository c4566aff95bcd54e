"""Images that are arrays: the digits of scikit-learn, .npz and .npy files, archives of CIFAR, files of MNIST.

A damaged file makes the readers of its format raise nearly anything, which becomes a `UsageError` here.
"""

import io
import pickle
import re
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from mnemoscope.emm.data import labels
from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.unpacking import check_npz, members_of, unpacked
from mnemoscope.errors import UsageError
from mnemoscope.prompts.sources import short

SAFE = {("_codecs", "encode"), *(("numpy", name) for name in ("ndarray", "dtype"))}
CIFAR = {"train": re.compile(r"data_batch_\d+|train"), "test": re.compile("test_batch|test")}
IDX_IMAGES, IDX_LABELS = 0x803, 0x801


def read_digits() -> Images:
    """The 1797 grey digits of scikit-learn, 8 x 8, their 17 grey levels spread over 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise UsageError("The digits are those of scikit-learn; run pip install 'mnemoscope[digits]'.") from e
    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
    names = tuple(f"digits:{place}" for place in range(len(pixels)))
    return Images(pixels, digits.target.astype(np.int64), names, 10)


def read_npz(path: Path) -> Images:
    """`images` (or `arr_0`) and `labels` of a .npz file; nothing in it is unpickled."""
    try:
        check_npz(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            held = {key: file[key] for key in ("images", "arr_0", "labels", "names", "num_classes") if key in file}
    except Exception as e:
        raise UsageError(f"{path} cannot be read as .npz: {short(str(e))}") from e
    if "images" not in held and "arr_0" not in held:
        raise UsageError(f"{path} holds no images; give an .npz with the array images, and labels if there are any.")
    pixels = planes(held.get("images", held.get("arr_0")), path)
    names = held.get("names", np.array([f"{path.name}:{place}" for place in range(len(pixels))]))
    if "labels" not in held:
        return Images(pixels, None, tuple(names.tolist()))
    least = held.get("num_classes", np.zeros((), int))
    if least.ndim or least.dtype.kind not in "iu":
        raise UsageError(f"num_classes of {path} is no whole number; give one, or leave it out.")
    numbers, classes = labels.of_values(held["labels"], str(path), int(least))
    return Images(pixels, numbers, tuple(names.tolist()), classes)


def read_npy(path: Path) -> Images:
    """Images without labels of an .npy file, which stays on the disk."""
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as e:
        raise UsageError(f"{path} cannot be read as .npy: {short(str(e))}") from e
    pixels = planes(held, path)
    return Images(pixels, None, tuple(f"{path.name}:{place}" for place in range(len(pixels))))


def planes(pixels: Any, path: Path) -> UInt8[np.ndarray, "N C H W"]:
    """Channels first, from N H W (grey), N H W C or N C H W; raises `UsageError` for other arrays."""
    if not pixels.size:
        raise UsageError(f"{path} holds no image: its array has the shape {pixels.shape}; give one image at least.")
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels[:, None]
    if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels.transpose(0, 3, 1, 2)
    if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels
    raise UsageError(
        f"{path} holds images of shape {pixels.shape} in {pixels.dtype}; give uint8 of shape [N, H, W] or [N, H, W, 3]."
    )


def read_cifar(path: Path, part: str) -> Images:
    """The images of CIFAR-10's or CIFAR-100's archive for Python, batch by batch; `part` is `train` or `test`."""
    if part not in CIFAR:
        raise UsageError(f"{path.name} has no part {part}; give train or test.")
    pixels, all_labels, names, is_batch = [], [], [], CIFAR[part].fullmatch
    try:
        for name, data in sorted(members_of(path, is_batch).items()):
            batch = _unpickled(data)
            pixels.append(_batch_pixels(batch[b"data"]))
            all_labels.append(_batch_labels(batch[b"labels"] if b"labels" in batch else batch[b"fine_labels"]))
            names += [f"{PurePosixPath(name).name}:{place}" for place in range(len(pixels[-1]))]
            if len(all_labels[-1]) != len(pixels[-1]):
                raise ValueError(f"{len(all_labels[-1])} labels were given for {len(pixels[-1])} images")
    except Exception as e:
        raise UsageError(f"{path} is no archive of CIFAR for Python: {short(str(e))}") from e
    if not names:
        raise UsageError(f"{path} is no archive of CIFAR for Python: it holds no image in a batch for {part}.")
    values, classes = labels.of_values(np.concatenate(all_labels), str(path))
    return Images(np.concatenate(pixels), values, tuple(names), 10 if classes <= 10 else 100)


def _batch_pixels(data: Any) -> UInt8[np.ndarray, "N 3 32 32"]:
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        kind = data.dtype if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"its pixels are {kind}, not uint8")
    return data.reshape(-1, 3, 32, 32)


def _batch_labels(values: Any) -> Int[np.ndarray, " N"]:
    flat = values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values
    if not isinstance(flat, list) or not all(isinstance(each, int) for each in flat):
        raise ValueError("its labels are no whole numbers")
    return np.asarray(flat, np.int64)


class _Restricted(pickle.Unpickler):
    """Arrays, texts and lists; whatever would run code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return import_module("numpy._core.multiarray" if hasattr(np, "_core") else module)._reconstruct
        if (module, name) not in SAFE:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return super().find_class(module, name)


def _unpickled(data: bytes) -> dict[bytes, Any]:
    return _Restricted(io.BytesIO(data), encoding="bytes").load()


def read_idx(path: Path) -> Images:
    """The images of MNIST's format, with the labels of the file beside them, `labels-idx1` for `images-idx3`."""
    pixels = _idx(path, IDX_IMAGES, 3)[:, None]
    names = tuple(f"{path.name}:{place}" for place in range(len(pixels)))
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.is_file():
        return Images(pixels, None, names)
    values, classes = labels.of_values(_idx(beside, IDX_LABELS, 1), str(beside))
    return Images(pixels, values, names, classes)


def _idx(path: Path, kind: int, dimensions: int) -> UInt8[np.ndarray, "..."]:
    try:
        data = unpacked(path)
        header = np.frombuffer(data[: 4 + 4 * dimensions], ">u4")
        if header[0] != kind:
            raise ValueError(f"its first number is {header[0]:#x}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(header[1:].tolist())
    except Exception as e:
        raise UsageError(f"{path} is no file of MNIST's format: {short(str(e))}") from e
