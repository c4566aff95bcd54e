"""Encoded images to pixels: whatever the file holds, an RGB image or a plain reason why not."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # no program is called
MEGAPIXELS = 100
LEAST_SIDE = 4  # pixels; smaller ones are spacers and trackers, of which nothing can be a copy
TURN = Image.Transpose
TURNS = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE}
TURNS |= {6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90}  # by EXIF orientation
MARKUP = {b"<svg": "an SVG drawing, not an image of pixels", b"<html": "a web page", b"<!doctype html": "a web page"}


class Unreadable(Exception):
    """A picture that cannot be used; `reason` says why in plain words."""

    status = "unreadable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Missing(Unreadable):
    """A picture that its source lists and does not hold, such as a link that was dead."""

    status = "missing"


def decoded(data: bytes, *, megapixels: int | float = MEGAPIXELS) -> Image.Image:
    """An encoded image in RGB: upright by its EXIF, transparency on white, 16 bits a channel as 8, the first frame.

    The size is read before the pixels, so that an image of more than `megapixels` takes no memory. Colour profiles are
    ignored. Raises `Unreadable`.
    """
    with warnings.catch_warnings(action="ignore"):  # of a file's metadata, which nobody here can mend
        return decoded_in_thread(data, megapixels=megapixels)


def decoded_in_thread(data: bytes, *, megapixels: int | float = MEGAPIXELS) -> Image.Image:
    """The same for a thread, which must not touch the filter of warnings: its caller has to."""
    if not data:
        raise Unreadable("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, megapixels)
            image.load()
            turn = TURNS.get(_orientation(image))
            opened = _rgb(image)
            return opened if turn is None else opened.transpose(turn)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable(_no_image(data)) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {megapixels:g} megapixels") from None
    except Exception as e:  # a decoder can raise anything for a damaged file, and one file must not stop the others
        raise Unreadable("truncated" if "truncated" in str(e).lower() else f"damaged ({type(e).__name__})") from e


def _check_size(image: Image.Image, megapixels: int | float) -> None:
    if image.width * image.height > megapixels * 1e6:
        raise Unreadable(f"more than {megapixels:g} megapixels")
    if min(image.size) < LEAST_SIDE:
        raise Unreadable(f"less than {LEAST_SIDE} pixels wide or high")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        opened = Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    elif image.mode in ("I", "F"):
        raise Unreadable("pixels of 32 bits, whose range is not known")
    elif "A" in image.getbands() or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        opened = Image.new("RGB", rgba.size, "white")
        opened.paste(rgba, mask=rgba.getchannel("A"))
    else:
        opened = image.convert("RGB")
    opened.info = {}
    return opened


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or the data is damaged, which harms no pixel."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _no_image(data: bytes) -> str:
    """What a file that no decoder knows looks like."""
    head = data[:2000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, kind in MARKUP.items():
        if head.startswith(mark) or (head.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and mark in head):
            return kind
    return "text, not an image" if head.isascii() and b"\0" not in head else "not an image"
