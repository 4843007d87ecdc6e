"""Image files as cameras and programs write them, and what a viewer shows of them."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
# How a picture is stored so that a viewer, who obeys the mark, shows it upright.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


class Picture(NamedTuple):
    """A file, the uint8 `[height, width, 3]` that it shows, and by how much a coder may err."""

    data: bytes
    shown: np.ndarray
    tolerance: int = 0

    def require(self, pixels):
        """What was read is what is shown; of what is lossy, in the middle of each patch."""
        step = slice(8, None, 16) if self.tolerance else slice(None)
        read, shown = pixels[step, step].astype(int), self.shown[step, step].astype(float)
        np.testing.assert_allclose(read, shown, atol=self.tolerance)


def save(pixels, file_format, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, file_format, **options)
    return file.getvalue()


def write_image(path, seed=0, size=(6, 5)):
    """A file of noise, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def patches(seed=0):
    """Patches of few colours, large enough for what halves the resolution of colours."""
    colors = np.random.default_rng(seed).integers(20, 236, (2, 3, 3), dtype=np.uint8)
    return colors.repeat(16, axis=0).repeat(16, axis=1)


def turned(file_format, orientation, **options):
    exif = Image.Exif()
    exif[0x010F], exif[ORIENTATION] = "maker", orientation
    stored = np.ascontiguousarray(STORED[orientation](patches()))
    tolerance = 4 if file_format == "JPEG" else 0
    return Picture(save(stored, file_format, exif=exif, **options), patches(), tolerance)


def transparent():
    """Colours with an opacity, and as they show on white."""
    opacity = np.array([[[0], [51], [255]], [[255], [204], [0]]]).repeat(16, 0).repeat(16, 1)
    on_white = np.rint((patches() * opacity + 255.0 * (255 - opacity)) / 255).astype(np.uint8)
    return np.concatenate([patches(), opacity.astype(np.uint8)], axis=-1), on_white


def make_pictures():
    """One of each kind that differs from a plain one, by a name that ends with its suffix."""
    grey = np.repeat(patches()[..., :1], 3, axis=-1)
    rgba, on_white = transparent()
    palette = Image.fromarray(patches()).quantize(16)
    hole = int(np.asarray(palette)[0, 0])
    with_hole = patches()
    with_hole[np.asarray(palette) == hole] = 255
    animation = {"save_all": True, "append_images": [Image.fromarray(255 - patches())]}
    black_and_white = np.where(grey > 127, 255, 0).astype(np.uint8)
    deep = grey[..., 0].astype(np.uint16) * 257
    cmyk = Image.fromarray(patches()).convert("CMYK")
    return {
        "palette.bmp": Picture(save(palette, "BMP"), patches()),
        "two colours.bmp": Picture(save(black_and_white, "BMP", "1"), black_and_white),
        "grey.bmp": Picture(save(grey, "BMP", "L"), grey),
        "opacity.png": Picture(save(rgba, "PNG"), on_white, 1),
        "opacity.webp": Picture(save(rgba, "WEBP", lossless=True, exact=True), on_white, 1),
        "opacity flat.webp": Picture(save(rgba, "WEBP"), on_white, 5),
        "opacity.tiff": Picture(save(rgba, "TIFF"), on_white, 1),
        "palette.png": Picture(save(palette, "PNG"), patches()),
        "hole.png": Picture(save(palette, "PNG", transparency=hole), with_hole),
        "hole.gif": Picture(save(palette, "GIF", transparency=hole), with_hole),
        "animation.gif": Picture(save(palette, "GIF", **animation), patches()),
        "animation.webp": Picture(save(patches(), "WEBP", lossless=True, **animation), patches()),
        "animation.png": Picture(save(patches(), "PNG", **animation), patches()),
        "16 bits.png": Picture(save(deep, "PNG"), grey),
        "16 bits.tif": Picture(save(deep, "TIFF"), grey),
        "cmyk.jpg": Picture(save(cmyk, "JPEG"), patches(), 4),
        "cmyk.tif": Picture(save(cmyk, "TIFF"), patches(), 1),
        "still.avif": Picture(save(patches(), "AVIF", quality=95), patches(), 8),
        "turned.tif": turned("TIFF", 6),
        **{f"turned {mark}.jpg": turned("JPEG", mark) for mark in STORED},
        "turned.png": turned("PNG", 5),
        "turned.webp": turned("WEBP", 8, lossless=True),
    }


PICTURES = make_pictures()
