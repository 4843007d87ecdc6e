"""A labelled collection of clips, read in batches of sampled frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfpqn.datasets.image_set import ImageSet
from tfpqn.datasets.plain_images import encode_png
from tfpqn.items import CLIPS


class ClipSet(ImageSet):
    """Base of the collections whose items are clips: `num_frames` frames in their order.

    `images` of a batch are uint8 `[batch, num_frames, height, width, channels]`. A clip that
    cannot be read, or has no frame, is left out of the batches and noted in `skipped`. With a seed,
    `read_item` draws a random frame of each stretch of the clip; without one it takes the middle
    frames of the stretches.

    Attributes:
        num_frames: Frames that are sampled from each clip, however long it is.
        image_shape: Shape of one frame: `(height, width, channels)`.
        mirrors_alike: Whether a mirrored clip keeps its label; a motion to the left does not.
    """

    items = CLIPS
    num_frames: int

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.num_frames, *self.image_shape)

    def encoded_frames(self, position: int) -> list[bytes]:
        """The uniformly sampled frames of one clip as PNG: what a search request carries."""
        return encode_frames(self.read_item(position))


def encode_frames(frames: Iterable[np.ndarray]) -> list[bytes]:
    """Frames, each uint8 `[height, width, channels]`, as PNG: what a search request carries."""
    return [encode_png(frame) for frame in frames]
