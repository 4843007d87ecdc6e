"""Laws of an image set in memory, and of the part that all image sets share."""

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.datasets import ImageArrays
from tfpqn.datasets.image_set import fingerprint


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(7,), (7, 4, 5), (7, 4, 5, 3, 1)])
def test_images_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 .*Received: uint8 \(7,"):
        ImageArrays(np.zeros(shape, np.uint8), np.arange(7))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_images_of_another_dtype_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=f"images must be uint8 .*Received: {np.dtype(dtype)}"):
        ImageArrays(np.zeros((7, 4, 5, 3), dtype), np.arange(7))


def test_lengths_that_differ_are_refused(pixels: np.ndarray) -> None:
    expected = "one entry per image. Received: 7 images, {} labels, {} ids"
    with pytest.raises(ValueError, match=expected.format(6, 7)):
        ImageArrays(pixels, np.arange(6))
    with pytest.raises(ValueError, match=expected.format(7, 8)):
        ImageArrays(pixels, np.arange(7), ids=np.arange(8))


def test_ids_count_from_zero_unless_given(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(ImageArrays(pixels, np.zeros(7)).ids, np.arange(7))
    names = [f"name {i}" for i in range(7)]
    assert ImageArrays(pixels, np.zeros(7), ids=names).ids.tolist() == names


def test_attributes_are_what_was_given(pixels: np.ndarray) -> None:
    images = ImageArrays(pixels, list(range(7)), label_names=list("abcdefg"))
    assert len(images) == 7
    assert images.image_shape == (4, 5, 3)
    assert images.label_names == tuple("abcdefg")
    assert images.skipped == {}
    assert images.readable() is images


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_hold_all_images_in_order(pixels: np.ndarray, batch_size: int) -> None:
    batches = list(ImageArrays(pixels, np.arange(7)).batches(batch_size))
    assert all(len(batch.images) == batch_size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate([b.positions for b in batches]), np.arange(7))
    images = np.concatenate([batch.images for batch in batches])
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, pixels)


def test_batches_hold_the_chosen_positions_in_the_order_given(pixels: np.ndarray) -> None:
    chosen = np.array([5, 0, 5, 2])
    batches = list(ImageArrays(pixels, np.arange(7)).batches(3, chosen))
    np.testing.assert_array_equal(np.concatenate([b.positions for b in batches]), chosen)
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), pixels[chosen])


def test_set_without_images_has_no_batches(pixels: np.ndarray) -> None:
    images = ImageArrays(pixels, np.arange(7)).subset(np.array([], dtype=np.int64))
    assert len(images) == 0
    assert list(images.batches(4)) == []


def test_subset_keeps_labels_ids_and_names_together(pixels: np.ndarray) -> None:
    labels, ids = np.arange(7) * 10, np.array(list("tuvwxyz"))
    part = ImageArrays(pixels, labels, ids, label_names=("a",)).subset(np.array([6, 1]))
    np.testing.assert_array_equal(part.images, pixels[[6, 1]])
    assert part.labels.tolist() == [60, 10]
    assert part.ids.tolist() == ["z", "u"]
    assert part.label_names == ("a",)


def test_labels_may_be_multi_hot(pixels: np.ndarray) -> None:
    labels = np.eye(7, 3, dtype=np.int64)
    np.testing.assert_array_equal(
        ImageArrays(pixels, labels).subset(np.array([2, 0])).labels, labels[[2, 0]]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_image_decodes_to_the_pixels(pixels: np.ndarray, channels: int) -> None:
    images = ImageArrays(pixels[..., :channels], np.arange(7))
    for position in range(7):
        decoded = tf.io.decode_image(images.encoded_image(position)).numpy()
        np.testing.assert_array_equal(decoded, images.images[position])


def test_fingerprint_tells_items_and_their_order_apart() -> None:
    ids = np.array([3, 1, 2])
    assert fingerprint(ids) == fingerprint(ids.copy())
    others = [np.array([1, 2, 3]), np.array([3, 1]), np.array([31, 2]), np.array([], np.int64)]
    assert len({fingerprint(ids), *map(fingerprint, others)}) == 5
