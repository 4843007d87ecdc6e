"""What an image file says of its size before it is decoded.

The graph holds the same check (`input_checks.check_images`); this one is for programs that look at
bytes before they send or merge them.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from .limits import MAX_PIXELS

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


def check_image_bytes(data: bytes, max_pixels: int = MAX_PIXELS) -> None:
    """Accept the bytes of an image file that is not too large; only its header is read.

    Args:
        data: Bytes of a JPEG, PNG, GIF, BMP or WebP file.
        max_pixels: Largest width times height.

    Raises:
        ValueError: The bytes are no such file, or its header names more pixels.
    """
    num_pixels = _read_num_pixels(data)
    if num_pixels is None:
        raise ValueError(
            "expected the bytes of a JPEG, PNG, GIF, BMP or WebP file. "
            f"Received {len(data)} other bytes"
        )
    if num_pixels > max_pixels:
        raise ValueError(
            f"expected images of at most {max_pixels} pixels. Received one of {num_pixels}"
        )


def _read_num_pixels(data: bytes) -> int | None:
    """Width times height, or None where the header cannot be read."""
    try:
        # Opening reads the header alone; its own, larger, limit only warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.width * image.height
    except Image.DecompressionBombError:
        return 2**63
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None
