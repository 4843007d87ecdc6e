"""A labelled collection of clips, read in batches of sampled frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfpqn.datasets.decoding import plain_sentence
from tfpqn.datasets.frame_sampling import SeedPair
from tfpqn.datasets.image_set import ImageSet
from tfpqn.datasets.item_reading import find_readable, read_items
from tfpqn.datasets.lazy_tensorflow import tf


class ClipSet(ImageSet):
    """Base of the collections whose items are clips: `num_frames` frames in their order.

    `images` of a batch are uint8 `[batch, num_frames, height, width, channels]`. A clip that
    cannot be read, or has no frame, is left out of the batches and noted in `skipped`.

    Attributes:
        num_frames: Frames that are sampled from each clip, however long it is.
        image_shape: Shape of one frame: `(height, width, channels)`.
        mirrors_alike: Whether a mirrored clip keeps its label; a motion to the left does not.
    """

    num_frames: int

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.num_frames, *self.image_shape)

    def read_clip(self, position: int, seed_pair: SeedPair | None = None) -> np.ndarray:
        """The sampled frames of one clip.

        Args:
            position: Row of the set.
            seed_pair: Draws the frames at random, one of each stretch of the clip; without it
                the middle frames of the stretches are taken.

        Returns:
            uint8 `[num_frames, height, width, channels]`.

        Raises:
            ValueError: The clip has no frame, or cannot be decoded.
            OSError: The clip cannot be read.
        """
        raise NotImplementedError

    def load(
        self,
        positions: tf.data.Dataset,
        batch_size: int,
        seeds: tf.data.Dataset | None = None,
    ) -> tf.data.Dataset:
        """Turn a dataset of int64 positions into `(clips, positions)` batches, in order.

        Args:
            positions: Rows of the set, in any order and as often as wished.
            batch_size: Clips per batch; the last may be smaller.
            seeds: Dataset of int64, one per position: the frames of each clip are drawn at random
                as its seed says. Without it they are sampled uniformly.
        """
        if seeds is None:
            items = positions.map(lambda position: (position,))
        else:
            items = tf.data.Dataset.zip((positions, seeds))
        return read_items(items, self._read, self.item_shape, batch_size)

    def _read(
        self, position: np.int64, seed: np.int64 | None = None
    ) -> tuple[np.ndarray, np.bool_]:
        seed_pair = None if seed is None else (int(seed), int(position))
        try:
            return self.read_clip(int(position), seed_pair), np.bool_(True)
        except (OSError, ValueError, tf.errors.OpError) as error:
            message = error.message if isinstance(error, tf.errors.OpError) else str(error)
            self.skipped[self.ids[position]] = plain_sentence(message)
            return np.zeros(self.item_shape, np.uint8), np.bool_(False)

    def readable(self) -> ClipSet:
        # Few at a time: a batch of clips weighs as much as one of num_frames times as many images.
        need = "The set must hold at least one readable clip"
        return self.subset(find_readable(self, 8, need, "clips"))

    def subset(self, positions: np.ndarray) -> ClipSet:
        """The clips at the given positions, with their labels and ids."""
        raise NotImplementedError

    def encoded_frames(self, position: int) -> list[bytes]:
        """The uniformly sampled frames of one clip as PNG: what a search request carries."""
        return encode_frames(self.read_clip(position))

    def encoded_image(self, position: int) -> bytes:
        raise TypeError(
            "A clip must be asked for its encoded_frames(position), one PNG per sampled frame. "
            f"Received: encoded_image({position}) of a {type(self).__name__}"
        )


def encode_frames(frames: Iterable[np.ndarray]) -> list[bytes]:
    """Frames, each uint8 `[height, width, channels]`, as PNG: what a search request carries."""
    return [tf.io.encode_png(frame).numpy() for frame in frames]
