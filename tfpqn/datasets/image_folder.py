"""A folder of images with one subfolder per label."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfpqn.datasets.decoding import decode_image, plain_sentence
from tfpqn.datasets.image_set import ImageSet, ImageShape

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


class ImageFolder(ImageSet):
    """Image files below a folder, one subfolder per label, read and decoded in parallel.

    The id of an image is its path relative to the folder, with forward slashes. Files with another
    suffix are ignored; a file that cannot be decoded is skipped and noted in `skipped`.

    Args:
        folder: The folder. If images lie in it directly they get the label -1 ("unlabelled").
        image_shape: `(height, width, channels)` to decode to.
        label_names: Names that fix the label numbers, so that several folders agree; the sorted
            names of the subfolders by default.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no image.
        ValueError: A subfolder is not among `label_names`.
    """

    def __init__(
        self,
        folder: str | Path,
        image_shape: ImageShape,
        label_names: tuple[str, ...] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._set_files(_find_images(self.folder), label_names)
        self.image_shape = image_shape
        self.skipped = {}

    def _set_files(self, files: list[Path], label_names: tuple[str, ...] | None) -> None:
        # A name that is not UTF-8 (old disks have such) could not be written into any report.
        ids = [
            os.fsencode(file.relative_to(self.folder).as_posix()).decode(errors="backslashreplace")
            for file in files
        ]
        names = [id_.split("/")[0] if "/" in id_ else None for id_ in ids]
        if label_names is None:
            label_names = tuple(sorted({name for name in names if name is not None}))
        unknown = sorted({name for name in names if name is not None} - set(label_names))
        if unknown:
            raise ValueError(
                f"Subfolders must be among the labels {list(label_names)}. Received: {unknown}"
            )
        numbers = {name: number for number, name in enumerate(label_names)}
        self.files = files
        self.ids = np.array(ids, dtype=object)
        self.labels = np.array([numbers.get(n, -1) if n else -1 for n in names], dtype=np.int64)
        self.label_names = label_names

    def load(self, positions: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        def read(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image, ok = tf.numpy_function(self._read, [position], (tf.uint8, tf.bool))
            return tf.ensure_shape(image, self.image_shape), position, tf.ensure_shape(ok, [])

        return (
            positions.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .filter(lambda image, position, ok: ok)
            .map(lambda image, position, ok: (image, position))
            .batch(batch_size)
        )

    def _read(self, position: np.int64) -> tuple[np.ndarray, np.bool_]:
        try:
            data = self.files[position].read_bytes()
            return decode_image(tf.constant(data), self.image_shape).numpy(), np.bool_(True)
        except (OSError, tf.errors.OpError) as error:
            message = error.message if isinstance(error, tf.errors.OpError) else str(error)
            self.skipped[self.ids[position]] = plain_sentence(message)
            return np.zeros(self.image_shape, np.uint8), np.bool_(False)

    def readable(self) -> ImageFolder:
        for _ in self.batches(256):
            pass
        readable = [position for position, id_ in enumerate(self.ids) if id_ not in self.skipped]
        if not readable:
            raise ValueError(
                f"{self.folder} must hold at least one readable image. Received: {len(self)} "
                f"files, none readable; the first: {next(iter(self.skipped.items()))}"
            )
        return self.subset(np.array(readable))

    def subset(self, positions: np.ndarray) -> ImageFolder:
        part = copy.copy(self)
        part._set_files([self.files[position] for position in positions], self.label_names)
        return part

    def encoded_image(self, position: int) -> bytes:
        return self.files[position].read_bytes()


def _find_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"The image folder must exist. Received: {str(folder)!r}")
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    )
    if not files:
        raise FileNotFoundError(
            f"The folder must hold images ({', '.join(IMAGE_SUFFIXES)}), one subfolder per label. "
            f"Received: {str(folder)!r}, which holds none"
        )
    return files
