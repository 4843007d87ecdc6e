"""What a run is trained on, and how its batches are drawn."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpqn.items import CLIPS, IMAGES, RESIZES, SPECS, VECTORS, ItemSpec

from .setting import check_settings, setting

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet, Splits

FOLDER_FRAMES = 16
IMAGE_SIZE = 64
# Images per step, unless there are fewer.
BATCH_SIZE = 64
# One of these names the items.
SOURCES = ("protocol", *(items.source for items in SPECS))
# Settings of augmentation and what they are without it.
UNAUGMENTED = {"min_area": 1.0, "cutout": 0, "color_jitter": 0.0, "views": 1}


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The items, and what a batch of them is.

    A folder or file is kept as an absolute path, so that a run is evaluated from any folder.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    protocol: str | None = setting(
        None,
        "digits, fashion-mnist, cifar10-full, cifar10-test, cifar10-train, cifar10-5k, "
        "cifar10-10kq; of clips moving-digits.",
        default_text="digits, or moving-digits",
    )
    images: str | None = setting(None, "Folder of images, one subfolder per label.")
    videos: str | None = setting(None, "Folder of videos, one subfolder per label; or .npz set.")
    vectors: str | None = setting(None, "File of vectors of another model: .npy, .npz, .parquet.")
    labels: str | None = setting(
        None, "Table of labels (.csv, .tsv, .parquet): item, label, and maybe split and group."
    )
    label_column: tuple[str, ...] = setting(
        ("label",), "Column of the table that holds labels; repeatable, for labels of several."
    )
    image_size: int | None = setting(
        None,
        "Height and width that a folder's images get; with weights also a protocol's.",
        default_text="64; with weights what suits the backbone",
        at_least=1,
    )
    resize: str = setting(
        "stretch",
        "What becomes of another aspect: stretch, crop (its middle) or pad (grey borders).",
        choices=RESIZES,
    )
    num_frames: int | None = setting(
        None, "Frames taken of each clip.", default_text="the protocol's number, or 16", at_least=1
    )
    batch_size: int | None = setting(
        None, "Images per step.", default_text="64, or all images if there are fewer", at_least=1
    )
    augment: bool = setting(
        True, "Shift the images at random, mirror them, and draw the frames of clips."
    )
    max_shift: int | None = setting(
        None,
        "Largest shift in pixels.",
        default_text="a sixteenth of the shorter side, at most 2",
        at_least=0,
    )
    min_area: float = setting(
        1.0, "Least share of an image that a random crop keeps.", above=0, at_most=1
    )
    cutout: int = setting(0, "Side of the square cut out of each image.", at_least=0)
    color_jitter: float = setting(
        0.0, "Most by which brightness, contrast and saturation change.", at_least=0, below=1
    )
    views: int = setting(
        1, "Times that an image stands in a batch; 2 or more train without labels.", at_least=1
    )
    samples_per_class: int = setting(
        0, "Items of a label in a batch; 0 draws them at random.", at_least=0
    )

    def __post_init__(self) -> None:
        if len(given := [name for name in SOURCES if getattr(self, name)]) > 1:
            received = ", ".join(f"{name}={getattr(self, name)!r}" for name in given)
            raise ValueError(f"A run needs one of {', '.join(SOURCES)}. Received: {received}")
        for name in SOURCES[1:]:
            if getattr(self, name):
                object.__setattr__(self, name, os.path.abspath(getattr(self, name)))
        object.__setattr__(self, "label_column", tuple(self.label_column))
        if self.labels:
            object.__setattr__(self, "labels", os.path.abspath(self.labels))
            if not self.folder:
                raise ValueError(
                    f"labels are for items of one's own ({', '.join(SOURCES[1:])}). "
                    f"Received: labels={self.labels!r} without them"
                )
        check_settings(self)
        for name, value in UNAUGMENTED.items():
            if not self.augment and getattr(self, name) != value:
                raise ValueError(
                    f"{name} must be {value} without augment. Received: {getattr(self, name)}"
                )
        self._check_batch()

    @property
    def images_per_step(self) -> int:
        """The batch size, where it is not left open."""
        if self.batch_size is None:
            raise ValueError(
                "batch_size must be a number by now: give one, or let for_items choose it. "
                "Received: batch_size=None"
            )
        return self.batch_size

    def fitting_batch(self, num_items: int) -> int:
        """The default batch size for so many items, which views and samples of a label divide."""
        unit = max(self.views, self.samples_per_class, 1)
        return max(min(BATCH_SIZE, num_items) // unit, 1) * unit

    @property
    def folder(self) -> str | None:
        """The folder or file of the items; None with a protocol."""
        return next((folder for name in SOURCES[1:] if (folder := getattr(self, name))), None)

    @property
    def items(self) -> ItemSpec:
        """What the items are."""
        from tfpqn.datasets import load_protocol

        if self.protocol is not None:
            return IMAGES if load_protocol(self.protocol).num_frames is None else CLIPS
        return next(items for items in SPECS if getattr(self, items.source))

    def load_splits(
        self, data_dir: str | Path | None = None, num_frames: int | None = None
    ) -> Splits:
        """The data of these settings.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets.
            num_frames: Frames to take of each clip instead.
        """
        from tfpqn.datasets import load_protocol

        if self.protocol is None:
            return self.split(self.open_folder(num_frames))
        chosen = load_protocol(self.protocol)
        if num_frames is None and chosen.num_frames is not None:
            num_frames = self.num_frames
        return chosen.load(data_dir, num_frames)

    def open_folder(
        self, num_frames: int | None = None, image_shape: tuple[int, ...] | None = None
    ) -> ImageSet:
        """The items of the folder.

        Args:
            num_frames: Frames to take of each clip instead.
            image_shape: `(height, width, channels)` to bring them to instead.
        """
        from tfpqn.datasets import ImageFolder, open_clips, open_vectors

        if num_frames is not None and self.items is not CLIPS:
            raise ValueError(
                f"num_frames is for clips alone. Received: num_frames={num_frames}, "
                f"{self.items.kind}"
            )
        if self.items is VECTORS:
            return open_vectors(self.folder or "")
        size = self.image_size or IMAGE_SIZE
        image_shape = image_shape or (size, size, 3)
        if self.items is CLIPS:
            frames = num_frames or self.num_frames or FOLDER_FRAMES
            return open_clips(self.folder or "", image_shape, frames, self.resize)
        return ImageFolder(self.folder or "", image_shape, self.resize)

    def split(self, items: ImageSet, known: Mapping[str, bool] | None = None) -> Splits:
        """The readable ones of the items, with the labels of the table, if there is one.

        Args:
            items: From `open_folder`.
            known: As of `split_folder`.
        """
        from tfpqn.datasets import read_labels, split_folder

        items = self.label(items).readable()
        labelled = self.goes_by_labels(items)
        if self.labels is None:
            return split_folder(items, labelled=labelled, known=known)
        table = read_labels(self.labels, self.label_column)
        return table.split(items, labelled=labelled, known=known)

    def label(self, items: ImageSet, **options: Any) -> ImageSet:
        """The items, from `open_folder`, with the labels of the table, if there is one.

        The options are those of `LabelsFile.apply`.
        """
        from tfpqn.datasets import read_labels

        if self.labels is None:
            return items
        return read_labels(self.labels, self.label_column).apply(items, **options)

    def goes_by_labels(self, items: ImageSet) -> bool:
        """Whether the items' labels have a part in the split and in the training."""
        return self.views == 1 and items.has_labels

    def _check_batch(self) -> None:
        views, samples = self.views, self.samples_per_class
        size = self.fitting_batch(BATCH_SIZE) if self.batch_size is None else self.batch_size
        if size % views:
            raise ValueError(
                f"views must divide batch_size. Received: views={views}, batch_size={size}"
            )
        divides = samples >= 2 and not size % samples and samples < size
        if samples and (not divides or views > 1):
            raise ValueError(
                "samples_per_class must be 0, or at least 2 and divide batch_size into two or "
                f"more, and be 0 with several views. Received: samples_per_class={samples}, "
                f"batch_size={size}, views={views}"
            )
