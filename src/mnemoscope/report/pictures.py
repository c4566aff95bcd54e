"""Images of a run, small enough for a page and only from inside its folder."""

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

THUMBNAIL, SMALL, LARGEST = 320, 160, 64_000_000  # pixels of a side, of one in a list, pixels in all


def picture(folder: Path, name: object, side: int = THUMBNAIL) -> str | None:
    """A small copy of an image as a data URI; None unless it is a readable image inside the folder."""
    try:
        path = (folder / str(name)).resolve()
        if not (path.is_relative_to(folder.resolve()) and path.is_file()):
            return None
        with warnings.catch_warnings(action="error"), Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > LARGEST:
                return None
            is_exact = max(image.size) <= side and image.format == "PNG"
            copy = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None
    copy.thumbnail((side, side))
    buffer, kind = io.BytesIO(), "png" if is_exact else "jpeg"
    copy.save(buffer, kind, optimize=True)
    return data_uri(buffer.getvalue(), kind)


def data_uri(data: bytes, kind: str) -> str:
    """The data of an image as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
