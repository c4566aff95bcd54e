"""Checkpoints in a folder that any trainer writes: which are whole, in what order, and how each is opened."""

import re
from dataclasses import dataclass
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.features.identity import weights_of
from mnemoscope.model.weights.lora_file import FILES
from mnemoscope.model.weights.marks import LORA, read_header
from mnemoscope.model.weights.parts import folder_of
from mnemoscope.run.settings import Settings
from mnemoscope.run.whole import is_whole

WEIGHTS = (".safetensors", ".bin")
UNREAD = (".ckpt", ".pt", ".pth")  # pickles
EMBEDDING = {"emb_params", "clip_l", "clip_g"}
STEPS = [  # where trainers put the number of steps or epochs into a name, the surest form first
    re.compile(r"save-(\d+)-\d+-\d+$"),
    re.compile(r"step[-_]?(\d+)"),
    re.compile(r"checkpoint-(\d+)$"),
    re.compile(r"[-_](\d+)$"),
]


@dataclass(frozen=True)
class Saved:
    """A checkpoint on the disk: its name, the number in it, if there is one, and its weights' files."""

    path: Path
    step: int | None
    weights: tuple[Path, ...]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state(self) -> tuple[tuple[int, int], ...]:
        """Sizes and times of its files: another state is another checkpoint, or the same one still being written."""
        return tuple((s.st_size, s.st_mtime_ns) for s in (file.stat() for file in self.weights))

    @property
    def is_whole(self) -> bool:
        """Whether each file ends where its header says."""
        return all(is_whole(file) for file in self.weights)

    @property
    def sha256(self) -> str:
        """What tells its weights from others; see `mnemoscope.features.identity.weights_of`."""
        return weights_of(self.weights)

    def opening(self, base: str) -> tuple[str, Settings]:
        """The model and what is put into it, for `mnemoscope.model.loading.open_model`.

        A pipeline or a single file stands for itself; a LoRA, an embedding or a U-Net goes into the `base`. Raises
        `UsageError` for a folder whose weights are none of these.
        """
        if self.path.is_dir():
            return self._folder(base)
        keys, _ = read_header(self.path)
        if any(LORA.search(key) for key in keys):
            return base, {"lora": [self.path]}
        return (base, {"embedding": [self.path]}) if EMBEDDING & set(keys) else (str(self.path), {})

    def _folder(self, base: str) -> tuple[str, Settings]:
        if (self.path / "model_index.json").is_file():
            return str(self.path), {}
        if any((self.path / name).is_file() for name in FILES):
            return base, {"lora": [self.path]}
        if folder_of(self.path, "unet"):
            return base, {"unet": self.path}
        names = ", ".join(sorted({file.name for file in self.weights})[:3])
        raise UsageError(f"{self.path} has {names}, which is no pipeline, U-Net or LoRA that can be opened.")


def saved_in(folder: Path) -> tuple[list[Saved], list[str]]:
    """The checkpoints in a folder, by the numbers in their names, those without one last, and names of what is none.

    A checkpoint is a .safetensors file, or a folder with weights in it. Pickles (.ckpt, .pt) are not read. Raises
    `UsageError` for a folder that is not there.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the one that the trainer writes its checkpoints into.")
    found, other = [], []
    for path in sorted(folder.iterdir()):
        weights = _weights(path)
        if weights:
            found.append(Saved(path, number_in(path), weights))
        elif path.is_dir() or path.suffix in UNREAD:
            other.append(path.name)
    return sorted(found, key=_order), other


def number_in(path: Path) -> int | None:
    """The steps or epochs that a checkpoint's name says; None if it says none."""
    stem = path.stem if path.suffix in WEIGHTS else path.name
    return next((int(match[1]) for pattern in STEPS if (match := pattern.search(stem))), None)


def _weights(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,) if path.suffix == ".safetensors" else ()
    inside = [file for file in path.rglob("*") if file.suffix in WEIGHTS and file.is_file()]
    own = [file for file in inside if file.name not in ("optimizer.bin", "scheduler.bin")]
    return tuple(sorted(own))


def _order(saved: Saved) -> tuple[bool, int, int]:
    return saved.step is None, saved.step or 0, max(file.stat().st_mtime_ns for file in saved.weights)
