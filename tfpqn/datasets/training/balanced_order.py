"""An order of training items in which every batch has as many items of each of its classes."""

from __future__ import annotations

import heapq
import warnings

import numpy as np


class BalancedOrder:
    """Batches of `batch_size / samples_per_class` classes with `samples_per_class` items each.

    In each epoch the items of each class are shuffled and cut into groups, and each batch takes one
    group of each of the classes that have most groups left. No item comes twice in an epoch; what
    fills no group, and the groups that fill no batch with others, are left out, other items in each
    epoch. Of classes of one size almost nothing is left out; of classes much larger than those that
    have to fill up their batches, much: a warning says so where it is more than half.

    Args:
        labels: One label an item, `[num_items]`.
        batch_size: Items in a batch.
        samples_per_class: Items of a class in a batch, at least 2, a divisor of `batch_size` and
            at most half of it.

    Raises:
        TypeError: `samples_per_class` is no integer.
        ValueError: An item may have several labels, `samples_per_class` is out of range, or too few
            classes have so many items.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, samples_per_class: int) -> None:
        if not isinstance(samples_per_class, (int, np.integer)):
            raise TypeError(
                "samples_per_class must be an integer. "
                f"Received: {samples_per_class!r} of {type(samples_per_class).__name__}"
            )
        if samples_per_class < 2 or batch_size % samples_per_class:
            raise ValueError(
                "samples_per_class must be at least 2 and divide the batch. Received: "
                f"samples_per_class={samples_per_class}, batch_size={batch_size}"
            )
        if samples_per_class == batch_size:
            raise ValueError(
                "samples_per_class must leave room for a second class: an item without irrelevant "
                f"ones teaches nothing. Received: {samples_per_class}, the whole batch"
            )
        if np.ndim(labels) != 1:
            raise ValueError(
                "samples_per_class needs items of one label each. "
                f"Received: labels of shape {np.shape(labels)}"
            )
        _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self.samples_per_class = samples_per_class
        self.classes_per_batch = batch_size // samples_per_class
        self._rows_by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])
        self._num_groups = sizes // samples_per_class
        has_group = np.count_nonzero(self._num_groups)
        if has_group < self.classes_per_batch:
            raise ValueError(
                f"A batch of {batch_size} with samples_per_class={samples_per_class} needs "
                f"{self.classes_per_batch} classes of so many items. Received: {has_group} of them"
            )
        self.num_batches = len(_choose_classes(self._num_groups, self.classes_per_batch))
        num_used = self.num_batches * batch_size
        if num_used < len(labels) / 2:
            warnings.warn(
                f"Batches of {self.classes_per_batch} classes use {num_used:,} of {len(labels):,} "
                "items in an epoch: there are too few small classes to go with the large ones. "
                "Fewer classes in a batch (a larger samples_per_class) use more",
                stacklevel=3,
            )

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """Rows of the items of an epoch, int64 `[num_batches * batch_size]`, batch after batch."""
        rng = np.random.default_rng([seed % 2**64, 2, epoch])
        size = self.samples_per_class
        groups = [
            rng.permutation(rows)[: count * size].reshape(-1, size)
            for rows, count in zip(self._rows_by_class, self._num_groups, strict=True)
        ]
        batches = rng.permutation(_choose_classes(self._num_groups, self.classes_per_batch, rng))
        left = self._num_groups.copy()
        rows: list[np.ndarray] = []
        for chosen in batches:
            left[chosen] -= 1
            rows.extend(groups[number][left[number]] for number in chosen)
        return np.concatenate(rows)


def _choose_classes(
    num_groups: np.ndarray, per_batch: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Classes of each batch `[num_batches, per_batch]`, as many batches as the groups fill.

    To take those with most groups left fills most; which of equals, the generator decides.
    """

    def entry(left: int, number: int) -> tuple[int, float, int]:
        return -left, 0.0 if rng is None else rng.random(), number

    heap = [entry(left, number) for number, left in enumerate(num_groups.tolist()) if left]
    heapq.heapify(heap)
    batches = []
    while len(heap) >= per_batch:
        chosen = [heapq.heappop(heap) for _ in range(per_batch)]
        batches.append([number for _, _, number in chosen])
        for left, _, number in chosen:
            if left < -1:
                heapq.heappush(heap, entry(-left - 1, number))
    return np.array(batches)
