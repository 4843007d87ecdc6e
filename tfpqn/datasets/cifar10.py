"""CIFAR-10, from tensorflow-datasets or from one file that does without it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.datasets.image_set import ImageArrays
from tfpqn.files import write_file_atomically
from tfpqn.npz import read_npz

FILE = "cifar10.npz"
LABEL_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
NUM_IMAGES = {"train": 50_000, "test": 10_000}
IMAGE_SHAPE = (32, 32, 3)


def load_cifar10(data_dir: Path | None) -> tuple[ImageArrays, ImageArrays]:
    """Training and test images; ids 0 .. 49999 train, 50000 .. 59999 test.

    Args:
        data_dir: Folder that holds `cifar10.npz`, or what tensorflow-datasets has prepared; None
            for tensorflow-datasets' own default.

    Raises:
        FileNotFoundError: The folder holds neither, or tensorflow-datasets would have to read it
            and is not installed.
        ValueError: The file holds other arrays.
    """
    if data_dir is not None and (data_dir / FILE).is_file():
        arrays = _read_file(data_dir / FILE)
    else:
        arrays = _read_prepared(data_dir)
    starts = {"train": 0, "test": NUM_IMAGES["train"]}
    train, test = (
        ImageArrays(
            arrays[f"x_{part}"],
            arrays[f"y_{part}"].astype(np.int64),
            start + np.arange(len(arrays[f"y_{part}"])),
            LABEL_NAMES,
        )
        for part, start in starts.items()
    )
    return train, test


def write_cifar10(data_dir: str | Path) -> Path:
    """Write `cifar10.npz` into the folder in which tensorflow-datasets has prepared CIFAR-10.

    The images keep their order, so that the splits of all protocols are the same.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: The folder does not hold CIFAR-10, or tensorflow-datasets is missing.
    """
    content = io.BytesIO()
    arrays: dict[str, Any] = _read_prepared(Path(data_dir))
    np.savez(content, **arrays)
    path = Path(data_dir) / FILE
    write_file_atomically(path, content.getvalue())
    return path


def _read_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays `x_train`, `y_train`, `x_test` and `y_test` of the file, checked."""
    arrays = read_npz(path, [f"{kind}_{part}" for part in NUM_IMAGES for kind in "xy"])
    for part, number in NUM_IMAGES.items():
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape != (number, *IMAGE_SHAPE):
            raise ValueError(
                f"x_{part} of {path} must be uint8 {(number, *IMAGE_SHAPE)}. "
                f"Received: {images.dtype} {images.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (number,):
            raise ValueError(
                f"y_{part} of {path} must be integers {(number,)}. "
                f"Received: {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= len(LABEL_NAMES):
            raise ValueError(
                f"y_{part} of {path} must lie in 0 .. {len(LABEL_NAMES) - 1}. "
                f"Received: {labels.min()} .. {labels.max()}"
            )
    return arrays


def _read_prepared(data_dir: Path | None) -> dict[str, np.ndarray]:
    """The same arrays as tensorflow-datasets has prepared them."""
    tfds = _import_tfds(data_dir)
    builder = tfds.builder("cifar10", data_dir=data_dir)
    if not (builder.data_path / "dataset_info.json").exists():
        raise FileNotFoundError(
            f"CIFAR-10 must lie prepared in the data directory. Received: {builder.data_dir!s}, "
            'which does not hold it. Get it once with `python -c "import tensorflow_datasets; '
            "tensorflow_datasets.load('cifar10', data_dir='DIR')\"` and pass `--data-dir DIR`"
        )
    arrays: dict[str, np.ndarray] = {}
    for part in NUM_IMAGES:
        items = tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1))
        arrays |= {f"x_{part}": items["image"], f"y_{part}": items["label"]}
    return arrays


def _import_tfds(data_dir: Path | None) -> Any:
    try:
        import tensorflow_datasets

        return tensorflow_datasets
    except ImportError as error:
        raise FileNotFoundError(
            f"CIFAR-10 must lie in the data directory as {FILE} where tensorflow-datasets is not "
            'installed. Write it elsewhere with `python -c "from tfpqn.datasets.cifar10 import '
            "write_cifar10; write_cifar10('DIR')\"`, DIR being the prepared one, and pass "
            f"`--data-dir DIR`. Received: {data_dir!s}, and {error}"
        ) from error
