"""Image files as people have them, made plain for the decoder that the served graph holds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tfpqn.items import MAX_PIXELS as MAX_PIXELS

IMAGE_SUFFIXES = tuple(".avif .bmp .gif .jpeg .jpg .png .tif .tiff .webp".split())
# First bytes of a file and what opens it; not `Image.open`, which warns of a limit of its own.
_OPENERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG": PngImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"ftypavi": AvifImageFile,
}


def make_plain(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """An image file as `decode_image` can read it, with the colours that a viewer shows.

    JPEG, PNG, still WebP and 24-bit BMP files stay as they are: the decoder itself turns them
    upright and lays them on white. The first frame of any other file becomes a PNG, upright, on
    white, with 8 bits a channel.

    Args:
        data: Bytes of a JPEG, PNG, GIF, WebP, BMP, TIFF or AVIF file.
        max_pixels: Largest width times height.

    Raises:
        ValueError: The bytes are no such file, or its header names more pixels.
    """
    image = _open(data, max_pixels)
    if _is_plain(data):
        return data
    try:
        return _encode_first_frame(image)
    except Exception as error:
        raise _broken(image, error) from error


def encode_png(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 `[height, width, channels]`, as the bytes of a PNG."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _is_plain(data: bytes) -> bool:
    if data.startswith(b"BM"):
        # Neither a palette nor the short header of OS/2.
        return 40 <= data[14] < 128 and data[28:30] == b"\x18\0"
    if data.startswith(b"RIFF"):
        return data[12:16] != b"VP8X" or not data[20] & 2
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The image, of which only the header has been read."""
    start = data[4:16] if data[4:8] == b"ftyp" else data
    opener = next((opener for first, opener in _OPENERS.items() if start.startswith(first)), None)
    if opener is None:
        raise ValueError(
            "expected the bytes of a JPEG, PNG, GIF, WebP, BMP, TIFF or AVIF file. "
            f"Received {len(data)} other bytes"
        )
    try:
        image = opener(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels, f"more than {Image.MAX_IMAGE_PIXELS}") from error
    # Broken bytes lead Pillow's readers into errors of any type.
    except Exception as error:
        raise _broken(opener, error) from error
    if image.width * image.height > max_pixels:
        raise _too_large(max_pixels, image.width * image.height)
    return image


def _too_large(max_pixels: int, received: int | str) -> ValueError:
    return ValueError(f"expected images of at most {max_pixels} pixels. Received one of {received}")


def _broken(image: ImageFile.ImageFile | type[ImageFile.ImageFile], error: Exception) -> ValueError:
    reason = f"a broken {image.format} file: {error}"
    return ValueError(f"expected a whole image file. Received {reason}")


def _encode_first_frame(image: Image.Image) -> bytes:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would cut off what is above 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    is_grey = image.mode in ("1", "L")
    return encode_png(np.atleast_3d(np.asarray(image.convert("L" if is_grey else "RGB"))))
