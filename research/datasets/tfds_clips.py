"""Clips of a video set that tensorflow-datasets has prepared for random access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.datasets.clips.clip_set import ClipSet
from tfpqn.datasets.clips.frame_sampling import choose_frames
from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.decoding import decode_image_bytes
from tfpqn.datasets.lazy_tensorflow import tf


class TfdsClips(ClipSet):
    """One split of a prepared set with the features `video` and `label`, such as UCF-101.

    The set must lie as `array_record`: clips are read in any order, and of each only the sampled
    frames are decoded. Making one reads every record once, for the labels.

    Args:
        name: Name for `tfds.builder`: `"set/config"`.
        split: Name of the split.
        image_shape: `(height, width, channels)` to which frames are brought.
        num_frames: Frames that are sampled from each clip.
        data_dir: Folder of the prepared sets; None for tensorflow-datasets' own default.
        first_id: Id of the first clip; the others count on from it.

    Raises:
        FileNotFoundError: The set is not prepared for random access; the message says how.
    """

    fields = ("_rows", "labels", "ids")

    def __init__(
        self,
        name: str,
        split: str,
        image_shape: ImageShape,
        num_frames: int,
        *,
        data_dir: str | Path | None = None,
        first_id: int = 0,
    ) -> None:
        builder = _find_prepared(name, data_dir)
        # The source beneath gives the records as they lie there: nothing is decoded yet.
        self._records = builder.as_data_source(split=split).data_source
        self._rows = np.arange(len(self._records))
        labels = [self._features(row)["label"].int64_list.value[0] for row in self._rows.tolist()]
        self.labels = np.array(labels, dtype=np.int64)
        self.ids = first_id + self._rows
        self.label_names = tuple(builder.info.features["label"].names)
        self.image_shape = image_shape
        self.num_frames = num_frames
        self.skipped = {}

    def _features(self, row: int) -> Any:
        return tf.train.Example.FromString(self._records[row]).features.feature

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        encoded = self._features(int(self._rows[position]))["video"].bytes_list.value
        chosen = choose_frames(len(encoded), self.num_frames, seed)
        return np.stack([decode_image_bytes(encoded[i], self.image_shape) for i in chosen.tolist()])


def _find_prepared(name: str, data_dir: str | Path | None) -> Any:
    """The builder of a set that lies there with random access."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    is_there = (builder.data_path / "dataset_info.json").exists()
    file_format = builder.info.file_format.value if is_there else "nothing"
    if file_format != "array_record":
        # A builder of our own is known to tensorflow-datasets once its module is imported.
        module = type(builder).__module__
        extra = f", {module}" if module.startswith("research.") else ""
        raise FileNotFoundError(
            f"{name} must lie prepared in the data directory as array_record, which gives random "
            f"access. Received: {builder.data_dir!s}, where it lies as {file_format}. Prepare it "
            f'once with `python -c "import tensorflow_datasets as tfds{extra}; '
            f"tfds.builder('{name}', data_dir='DIR').download_and_prepare("
            "file_format='array_record')\"` and pass `--data-dir DIR`, a folder that does not hold "
            "it yet"
        )
    return builder
