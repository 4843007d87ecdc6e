"""Shuffled, augmented training batches as a function of seed and step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from tfpqn.datasets.image_set import ImageBatch, ImageSet
from tfpqn.datasets.lazy_tensorflow import tf
from tfpqn.datasets.read_ahead import map_ahead
from tfpqn.datasets.training.augmentation import Augmentation, Draws
from tfpqn.datasets.training.balanced_order import BalancedOrder
from tfpqn.ops import number_labels

INT64_MAX = 2**63 - 1
# Batches that are made ahead of their use, and the threads that make them.
BATCHES_AHEAD = 6
NUM_THREADS = 4


class TrainingBatches:
    """An endless stream of `(images, labels)` batches that can start at any step.

    Batch number `step` depends on the seed and the step alone: a run that stopped at some step goes
    on as if it had not. Each epoch is a new permutation; its last, incomplete batch is left out.
    The stream comes as arrays, or as a `tf.data.Dataset` of these. Other items of a batch stand in
    for one that can no longer be read.

    Args:
        images: The set of images or clips; one made of files should be `readable()`.
        batch_size: Items per batch, at most the size of the set.
        seed: Seed of the order and of the augmentation.
        augment: Whether to shift by up to `max_shift` pixels, to flip at random (if the set's
            `mirrors_alike`), and to draw the frames of clips at random. All frames of a clip are
            shifted and flipped alike.
        max_shift: Largest shift along either axis, below the images' sides; the border is mirrored.
        min_area: With `augment`, the smallest share of its area that a random crop of each item
            keeps, all frames of a clip alike, before it is brought back to its size; 1 for no crop.
        cutout: With `augment`, side of a square around a random pixel of each item that is painted
            grey, in all frames of a clip alike; 0 for none. What of it lies outside is lost.
        color_jitter: With `augment`, the most by which brightness, contrast and saturation change,
            as a share of themselves, all frames of a clip alike; 0 for not at all.
        views: How often an item stands in a batch, one after another, each time augmented anew.
            Above 1 its label is its row in the set: only views of one item belong together, and no
            labels are needed.
        samples_per_class: Items of a class in a batch, which has `batch_size / samples_per_class`
            classes then (`BalancedOrder`). For sets of so many classes that items drawn at random
            would seldom belong together. 0 to draw them at random.

    Raises:
        ValueError: The set is smaller than a batch, `max_shift`, `min_area`, `cutout` or
            `color_jitter` is out of range, `views` does not divide the batch or is above 1 without
            `augment`, or `samples_per_class` does not fit the batch, the labels or the views.

    Reference:
        DeVries, Taylor: "Improved Regularization of Convolutional Neural Networks with Cutout",
        2017. Chen, Kornblith, Norouzi, Hinton: "A Simple Framework for Contrastive Learning of
        Visual Representations", ICML 2020 (views, crops, colours).

    Example:

    >>> batches = tfpqn.datasets.TrainingBatches(splits.train, batch_size=128, seed=0)
    >>> images, labels = next(iter(batches.dataset()))
    >>> tuple(images.shape), tuple(labels.shape)
    ((128, 8, 8, 1), (128,))
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        *,
        seed: int = 0,
        augment: bool = False,
        max_shift: int = 2,
        min_area: float = 1.0,
        cutout: int = 0,
        color_jitter: float = 0.0,
        views: int = 1,
        samples_per_class: int = 0,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise ValueError(
                f"batch_size must lie in 1 .. {len(images)}, the number of training images. "
                f"Received: {batch_size}"
            )
        self._augmentation = Augmentation(max_shift, min_area, cutout, color_jitter)
        if augment:
            self._augmentation.require_fitting(images.image_shape)
        if views < 1 or batch_size % views or views > 1 and not augment:
            raise ValueError(
                "views must be at least 1 and divide the batch, and be 1 without augment. "
                f"Received: views={views}, batch_size={batch_size}, augment={augment}"
            )
        if samples_per_class and views > 1:
            raise ValueError(
                "samples_per_class must be 0 with several views, which train without labels. "
                f"Received: samples_per_class={samples_per_class}, views={views}"
            )
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.views = views
        self._labels = number_labels(images.labels) if views == 1 else np.arange(len(images))
        self._balanced = (
            BalancedOrder(images.labels, batch_size, samples_per_class)
            if samples_per_class
            else None
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the set, each item counted once for each view."""
        if self._balanced is not None:
            return self._balanced.num_batches
        return len(self.images) * self.views // self.batch_size

    def dataset(
        self, first_step: int = 0, num_steps: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """The batches from `first_step` on.

        Args:
            first_step: Number of the first batch.
            num_steps: Number of batches; None for no end. A process that ends while Python makes a
                batch may wait for it for ever, one that has taken all batches does not.
            part: Which of so many equal parts of each batch, `(0, 1)` for the whole. Nothing else
                of it is read. All parts together are the whole, but that each lets its own items
                stand in for those that cannot be read.

        Returns:
            Dataset of `(uint8 [batch_size, height, width, channels], labels [batch_size, ..])`;
            of clips uint8 `[batch_size, num_frames, height, width, channels]`.

        Raises:
            ValueError: A batch has no such part.
        """
        number, count = part
        if not 0 <= number < count or self.batch_size % count:
            raise ValueError(
                f"part must be one of equal parts of batch_size={self.batch_size}, counted from 0. "
                f"Received: part {number} of {count}"
            )
        size = self.batch_size // count
        rows = slice(number * size, (number + 1) * size)
        end = INT64_MAX if num_steps is None else first_step + num_steps
        batches = tf.data.Dataset.range(first_step, end).map(
            lambda step: self._make_tensors(step, rows),
            num_parallel_calls=NUM_THREADS,
            deterministic=True,
        )
        # There is nothing to tune, and a process that ends may wait a minute for the tuning thread.
        options = tf.data.Options()
        options.autotune.enabled = False
        return batches.prefetch(BATCHES_AHEAD).with_options(options)

    def arrays(
        self, first_step: int = 0, num_steps: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `dataset` gives, as arrays; threads make the next batches meanwhile."""
        steps = itertools.islice(itertools.count(first_step), num_steps)
        return map_ahead(self._make_batch, steps, num_ahead=BATCHES_AHEAD, num_threads=NUM_THREADS)

    def _make_tensors(self, step: tf.Tensor, rows: slice) -> tuple[tf.Tensor, tf.Tensor]:
        kinds = (self.images.item_dtype, self._labels.dtype)
        make = functools.partial(self._make_batch, rows=rows)
        images, labels = tf.numpy_function(make, [step], kinds)
        size = rows.stop - rows.start
        images = tf.ensure_shape(images, [size, *self.images.item_shape])
        return images, tf.ensure_shape(labels, [size, *self._labels.shape[1:]])

    def _make_batch(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of a batch, or of some of its rows; its random numbers are the same."""
        epoch, place = divmod(step, self.steps_per_epoch)
        seed = self.seed % 2**64
        order = _draw_order(self._balanced or len(self.images), seed, epoch)
        items_per_batch = self.batch_size // self.views
        positions = order[place * items_per_batch : (place + 1) * items_per_batch]
        positions = positions.repeat(self.views)
        rng = np.random.default_rng([seed, 1, step])
        seeds = rng.integers(2**63, size=len(positions))[rows] if self.augment else None
        images, positions = self._read_whole(positions[rows], seeds)
        if self.augment:
            draws = Draws(rng, self.batch_size, rows)
            images = self._augmentation.apply(images, draws, self.images.mirrors_alike)
        return images, self._labels[positions]

    def _read_whole(self, positions: np.ndarray, seeds: np.ndarray | None) -> ImageBatch:
        """So many items, however many of them can be read."""
        batch = self.images.read(positions, seeds)
        if len(batch.positions) == len(positions):
            return batch
        if not len(batch.positions):
            raise ValueError(
                "A training batch must hold an item that can be read. Received: "
                f"{len(positions)} others; the first: {next(iter(self.images.skipped.items()))}"
            )
        chosen = np.resize(np.arange(len(batch.positions)), len(positions))
        return ImageBatch(batch.images[chosen], batch.positions[chosen])


# Each step of an epoch asks for the same order.
@functools.lru_cache(maxsize=2)
def _draw_order(items: BalancedOrder | int, seed: int, epoch: int) -> np.ndarray:
    """Rows of the items of an epoch: of a balanced order, or of so many items."""
    if isinstance(items, BalancedOrder):
        return items.draw(seed, epoch)
    return np.random.default_rng([seed, 0, epoch]).permutation(items)
