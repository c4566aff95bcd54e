"""Whether a file that a row names is there and ends as its kind does, which one that was cut short does not."""

import json
from pathlib import Path

PNG_END = b"IEND\xaeB`\x82"


def is_whole(file: Path) -> bool:
    """Whether a picture or a file of arrays is there with its beginning and its end."""
    try:
        with file.open("rb") as opened:
            head = opened.read(8)
            size = opened.seek(0, 2)
            opened.seek(max(0, size - 8))
            tail = opened.read(8)
            if file.suffix == ".safetensors":
                opened.seek(8)
                return size == _length(head, opened.read(min(size, int.from_bytes(head, "little"))))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    if file.suffix == ".png":
        return head == b"\x89PNG\r\n\x1a\n" and tail == PNG_END
    if file.suffix in (".jpg", ".jpeg"):
        return head[:2] == b"\xff\xd8" and tail[-2:] == b"\xff\xd9"
    return size > 0


def _length(head: bytes, header: bytes) -> int:
    """How long a safetensors file has to be, from its first eight bytes and its header."""
    ends = [each["data_offsets"][1] for name, each in json.loads(header).items() if name != "__metadata__"]
    return 8 + int.from_bytes(head, "little") + max(ends, default=0)
