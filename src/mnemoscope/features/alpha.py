"""Transparency: every image is compared as it looks on white paper."""

from PIL import Image


def transparent(image: Image.Image) -> bool:
    """Whether an image has an alpha channel or a transparent colour."""
    return "A" in image.getbands() or "transparency" in image.info


def opaque(image: Image.Image) -> Image.Image:
    """The image in RGB, what is transparent laid on white."""
    if not transparent(image):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
