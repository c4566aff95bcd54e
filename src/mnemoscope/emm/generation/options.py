"""What `emm generate` draws."""

from dataclasses import dataclass, field
from typing import Any


def _of(default: Any, text: str, panel: str = "Run") -> Any:
    return field(default=default, metadata={"help": text, "panel": panel})


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how many at a time."""

    images: int | None = _of(None, "Images to draw, from seed 0 on; 64 without --seeds.")
    seeds: str | None = _of(None, "The seeds of the images: 0-63,100.")
    label: int | None = _of(None, "Draw only images of this label.", "Sampling")
    snapshot: str = _of("last", "Of a training: last, best, or its step.", "Network")
    batch_size: int = _of(64, "Images that a process draws at a time.")
