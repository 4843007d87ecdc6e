"""Small pictures of a folder's images, and of nothing else on the disk."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from tfpqn.datasets import IMAGE_SUFFIXES, make_plain
from tfpqn.datasets.labelled_files import is_hidden

# Pixels of the longer side: twice what the page shows, for screens of high density.
THUMBNAIL_SIDE = 384
MAX_FILE_BYTES = 64 * 2**20


def find_image(folder: Path, item_id: str) -> Path:
    """The image file that an id names, which lies in the folder.

    Args:
        folder: A folder that exists.
        item_id: Path relative to the folder, with forward slashes, as `tfpqn index` names items.

    Raises:
        LookupError: There is none: the id is no such path, has no suffix of an image, names a
            hidden file or a larger one than `MAX_FILE_BYTES`, or leads out of the folder, by a
            link too.
    """
    root = folder.resolve()
    parts = PurePosixPath(item_id).parts
    try:
        path = root.joinpath(*parts).resolve(strict=True)
        is_inside = path.is_relative_to(root)
        is_bounded = path.is_file() and path.stat().st_size <= MAX_FILE_BYTES
    # A name may be too long, go round in links, or hold a zero byte.
    except (OSError, RuntimeError, ValueError) as error:
        raise LookupError("there is no such image") from error
    # `..` counts as hidden.
    is_image = path.suffix.lower() in IMAGE_SUFFIXES and not any(map(is_hidden, parts))
    if not (is_inside and is_bounded and is_image):
        raise LookupError("there is no such image")
    return path


def make_thumbnail(path: Path) -> bytes:
    """An image file in small and upright, as the bytes of a WebP; the first frame of several.

    Raises:
        ValueError: The file is no image, or a broken or too large one.
    """
    data = make_plain(path.read_bytes())
    try:
        with Image.open(io.BytesIO(data)) as image:
            # A JPEG is decoded at a fraction of its size.
            image.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            small = ImageOps.exif_transpose(image)
            small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            small = small.convert("RGBA" if small.has_transparency_data else "RGB")
            file = io.BytesIO()
            small.save(file, "WEBP", quality=80, method=2)
    # Broken bytes lead Pillow's readers into errors of any type.
    except Exception as error:
        raise ValueError(f"expected a whole image file. Received a broken one: {error}") from error
    return file.getvalue()
