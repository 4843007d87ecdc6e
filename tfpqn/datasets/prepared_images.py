"""CIFAR-10 and Fashion-MNIST, from tensorflow-datasets or from one file that does without it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.arrays import ImageArrays
from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.npz import read_npz


@dataclass(frozen=True)
class PreparedImages:
    """A data set of training and test images that tensorflow-datasets knows.

    Attributes:
        name: Its name there; the file is `NAME.npz`.
        label_names: Name of each label value.
        image_shape: `(height, width, channels)`.
        num_train, num_test: Images of each part.
    """

    name: str
    label_names: tuple[str, ...]
    image_shape: ImageShape
    num_train: int
    num_test: int

    @property
    def file_name(self) -> str:
        """Name of the file that does without tensorflow-datasets."""
        return f"{self.name}.npz"

    def load(self, data_dir: Path | None) -> tuple[ImageArrays, ImageArrays]:
        """Training and test images, with ids that count through both.

        Args:
            data_dir: Folder that holds the file, or what tensorflow-datasets has prepared; None for
                tensorflow-datasets' own default.

        Raises:
            FileNotFoundError: The folder holds neither, or tensorflow-datasets would have to read
                it and is not installed.
            ValueError: The file holds other arrays.
        """
        if data_dir is not None and (data_dir / self.file_name).is_file():
            arrays = self._read_file(data_dir / self.file_name)
        else:
            arrays = self._read_prepared(data_dir)
        train, test = (
            ImageArrays(
                arrays[f"x_{part}"],
                arrays[f"y_{part}"].astype(np.int64),
                start + np.arange(len(arrays[f"y_{part}"])),
                self.label_names,
            )
            for part, start in (("train", 0), ("test", self.num_train))
        )
        return train, test

    def write_file(self, data_dir: str | Path) -> Path:
        """Write the file into the folder in which tensorflow-datasets has prepared the images.

        They keep their order, so that the splits of all protocols are the same.
        """
        content = io.BytesIO()
        np.savez(content, **self._read_prepared(Path(data_dir)))  # type: ignore[arg-type]
        path = Path(data_dir) / self.file_name
        write_file_atomically(path, content.getvalue())
        return path

    @property
    def _sizes(self) -> dict[str, int]:
        return {"train": self.num_train, "test": self.num_test}

    def _read_file(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays `x_train`, `y_train`, `x_test` and `y_test` of the file, checked."""
        arrays = read_npz(path, [f"{kind}_{part}" for part in self._sizes for kind in "xy"])
        for part, number in self._sizes.items():
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            if images.dtype != np.uint8 or images.shape != (number, *self.image_shape):
                raise ValueError(
                    f"x_{part} of {path} must be uint8 {(number, *self.image_shape)}. "
                    f"Received: {images.dtype} {images.shape}"
                )
            known = range(len(self.label_names))
            if labels.dtype.kind not in "iu" or labels.shape != (number,):
                received = f"{labels.dtype} {labels.shape}"
            elif not set(np.unique(labels).tolist()) <= set(known):
                received = f"{labels.min()} .. {labels.max()}"
            else:
                continue
            raise ValueError(
                f"y_{part} of {path} must be integers {(number,)} in 0 .. {known[-1]}. "
                f"Received: {received}"
            )
        return arrays

    def _read_prepared(self, data_dir: Path | None) -> dict[str, np.ndarray]:
        """The same arrays as tensorflow-datasets has prepared them."""
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise FileNotFoundError(
                f"{self.name} must lie in the data directory as {self.file_name} where "
                "tensorflow-datasets is not installed. Write it elsewhere with `python -c "
                f'"from tfpqn.datasets.prepared_images import {self.name.upper()}; '
                f"{self.name.upper()}.write_file('DIR')\"`, DIR being the prepared one, and pass "
                f"`--data-dir DIR`. Received: {data_dir!s}, and {error}"
            ) from error
        builder = tfds.builder(self.name, data_dir=data_dir)
        if not (builder.data_path / "dataset_info.json").exists():
            raise FileNotFoundError(
                f"{self.name} must lie in the data directory, prepared by tensorflow-datasets or "
                f"as {self.file_name}. Received: {builder.data_dir!s}, which holds neither. Get it "
                "once with `python -c "
                f'"import tensorflow_datasets; tensorflow_datasets.load({self.name!r}, '
                "data_dir='DIR')\"` and pass `--data-dir DIR`"
            )
        arrays: dict[str, np.ndarray] = {}
        for part in self._sizes:
            items = tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1))
            arrays |= {f"x_{part}": items["image"], f"y_{part}": items["label"]}
        return arrays


CIFAR10 = PreparedImages(
    "cifar10",
    tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    (32, 32, 3),
    50_000,
    10_000,
)
FASHION_MNIST = PreparedImages(
    "fashion_mnist",
    tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")),
    (28, 28, 1),
    60_000,
    10_000,
)
