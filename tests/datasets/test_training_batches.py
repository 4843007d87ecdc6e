"""Laws of the training batches: they depend on seed and step alone."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.taking import Take, take_dataset
from tfpqn.datasets import ImageArrays, ImageFolder, TrainingBatches

SHAPE = (6, 7, 3)


@pytest.fixture
def images(rng: np.random.Generator) -> ImageArrays:
    """Twenty random images; the label of each is its position."""
    return ImageArrays(rng.integers(0, 256, (20, *SHAPE), dtype=np.uint8), np.arange(20))


def assert_same(first: list[tuple], second: list[tuple]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("batch_size", [1, 6, 20])
def test_batch_of_a_step_does_not_depend_on_where_the_stream_began(
    images: ImageArrays, batch_size: int, augment: bool, take: Take
) -> None:
    batches = TrainingBatches(images, batch_size, seed=3, augment=augment)
    per_epoch = batches.steps_per_epoch
    steps = 2 * per_epoch + 2
    stream = take(batches, steps)
    # The middle of an epoch, the ends of epochs, and a step before each.
    for first in {1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch}:
        assert_same(take(batches, steps - first, first), stream[first:])


def test_stream_goes_on_far_from_its_beginning(images: ImageArrays, take: Take) -> None:
    batches = TrainingBatches(images, 6, augment=True)
    far = 3 * 10**9 + 1
    assert_same(take(batches, 2, far)[1:], take(batches, 1, far + 1))


def test_each_epoch_is_another_permutation(images: ImageArrays, take: Take) -> None:
    batches = TrainingBatches(images, 5)
    stream = take(batches, 5 * batches.steps_per_epoch)
    orders = np.concatenate([labels for _, labels in stream]).reshape(5, 20)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(20))
    assert len({tuple(order) for order in orders} | {tuple(range(20))}) == 6


def test_incomplete_batch_is_left_out_and_no_image_comes_twice(
    images: ImageArrays, take: Take
) -> None:
    batches = TrainingBatches(images, 6)
    assert batches.steps_per_epoch == 3
    labels = np.concatenate([labels for _, labels in take(batches, 3)])
    assert len(set(labels.tolist())) == 18


def test_images_stay_with_their_labels(images: ImageArrays, take: Take) -> None:
    for pixels, labels in take(TrainingBatches(images, 6), 8):
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, images.images[labels])


@pytest.mark.parametrize("augment", [False, True])
def test_seeds_differ_and_equal_seeds_agree(images: ImageArrays, augment: bool, take: Take) -> None:
    first, again, second = (
        take(TrainingBatches(images, 20, seed=seed, augment=augment), 1) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert not np.array_equal(first[0][0], second[0][0])
    assert not np.array_equal(first[0][1], second[0][1])


def flips_and_shifts(image: np.ndarray, max_shift: int) -> dict[tuple, np.ndarray]:
    """Every image that augmentation may give, by (flip, row, column)."""
    height, width, _ = image.shape
    pad = (max_shift, max_shift)
    padded = np.pad(image, (pad, pad, (0, 0)), mode="reflect")
    found = {}
    for row, column in itertools.product(range(2 * max_shift + 1), repeat=2):
        window = padded[row : row + height, column : column + width]
        found[False, row, column] = window
        found[True, row, column] = window[:, ::-1]
    return found


@pytest.mark.parametrize("max_shift", [0, 1, 2])
def test_augmentation_flips_and_shifts_and_does_nothing_else(
    images: ImageArrays, max_shift: int, take: Take
) -> None:
    possible = [flips_and_shifts(image, max_shift) for image in images.images]
    ways_by_bytes = [{v.tobytes(): way for way, v in ways.items()} for ways in possible]
    batches = TrainingBatches(images, 20, augment=True, max_shift=max_shift)
    seen = []
    for pixels, labels in take(batches, 40):
        assert pixels.dtype == np.uint8
        for image, label in zip(pixels, labels, strict=True):
            assert image.tobytes() in ways_by_bytes[label]
            seen.append(ways_by_bytes[label][image.tobytes()])
    # 800 draws of at most 50 ways: each is there, none is a favourite.
    counts = [seen.count(way) for way in possible[0]]
    assert min(counts) > 0
    assert max(counts) < 3 * len(seen) / len(counts)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_greys_one_square_around_any_pixel(
    images: ImageArrays, side: int, take: Take
) -> None:
    plain, cut = (
        take(TrainingBatches(images, 20, augment=True, cutout=size), 40) for size in (0, side)
    )
    seen = set()
    for (before, labels), (after, same_labels) in zip(plain, cut, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        for one, other in zip(before, after, strict=True):
            centres = [
                centre
                for centre in itertools.product(range(SHAPE[0]), range(SHAPE[1]))
                if np.array_equal(other, grey_square(one, centre, side))
            ]
            assert centres
            seen.update(centres)
    assert len(seen) == SHAPE[0] * SHAPE[1]


def grey_square(image: np.ndarray, centre: tuple[int, int], side: int) -> np.ndarray:
    """The image with the square cut out, by a loop over its pixels."""
    cut = image.copy()
    first_row, first_column = (c - side // 2 for c in centre)
    for row, column in itertools.product(range(SHAPE[0]), range(SHAPE[1])):
        if 0 <= row - first_row < side and 0 <= column - first_column < side:
            cut[row, column] = 128
    return cut


@pytest.mark.parametrize("max_shift", [-1, 6, 100])
def test_shift_that_leaves_the_image_is_refused(images: ImageArrays, max_shift: int) -> None:
    with pytest.raises(ValueError, match=r"in 0 .. 5, for images of 6 x 7"):
        TrainingBatches(images, 6, augment=True, max_shift=max_shift)
    TrainingBatches(images, 6, max_shift=max_shift)


def test_largest_possible_shift_is_taken(images: ImageArrays, take: Take) -> None:
    ((batch, _),) = take(TrainingBatches(images, 6, augment=True, max_shift=5), 1)
    assert batch.shape == (6, *SHAPE)


@pytest.mark.parametrize("cutout", [-1, 15, 10**30])
def test_cutout_that_no_image_can_have_is_refused(images: ImageArrays, cutout: int) -> None:
    message = rf"cutout must lie in 0 \.\. 14, for images of 6 x 7 pixels. Received: {cutout}"
    with pytest.raises(ValueError, match=message):
        TrainingBatches(images, 6, augment=True, cutout=cutout)


def test_views_of_an_item_stand_together_and_are_labelled_by_it(
    images: ImageArrays, take: Take
) -> None:
    everyday = ImageArrays(images.images, np.zeros(20, np.int64))
    batches = TrainingBatches(everyday, 6, augment=True, max_shift=1, views=3)
    assert batches.steps_per_epoch == 10
    stream = take(batches, 10)
    labels = np.array([labels for _, labels in stream]).reshape(20, 3)
    np.testing.assert_array_equal(np.sort(labels, axis=0), np.repeat(np.arange(20)[:, None], 3, 1))
    views = np.array([pixels for pixels, _ in stream]).reshape(20, 3, *SHAPE)
    for label, seen in zip(labels[:, 0], views, strict=True):
        possible = {v.tobytes() for v in flips_and_shifts(images.images[label], 1).values()}
        assert {view.tobytes() for view in seen} <= possible
    differ = [len({view.tobytes() for view in seen}) > 1 for seen in views]
    assert np.mean(differ) > 0.8


def test_stream_of_views_does_not_depend_on_where_it_began(images: ImageArrays, take: Take) -> None:
    batches = TrainingBatches(images, 6, augment=True, min_area=0.3, color_jitter=0.4, views=2)
    stream = take(batches, 9)
    assert_same(take(batches, 4, 5), stream[5:])


def test_color_jitter_changes_pixels_and_nothing_else(images: ImageArrays, take: Take) -> None:
    plain, jittered = (
        take(TrainingBatches(images, 20, augment=True, color_jitter=strength), 1)[0]
        for strength in (0.0, 0.5)
    )
    np.testing.assert_array_equal(plain[1], jittered[1])
    assert plain[0].shape == jittered[0].shape
    assert plain[0].dtype == jittered[0].dtype
    # Bright pixels stay bright: the shifts are the same.
    correlations = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in zip(plain[0], jittered[0], strict=True)
    ]
    assert min(correlations) > 0.5
    assert max(correlations) < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"color_jitter": 1.0}, r"color_jitter must lie in \[0, 1\). Received: 1.0"),
        ({"min_area": 0.0}, r"min_area must lie in \(0, 1\]. Received: 0.0"),
        ({"min_area": 1.1}, r"min_area must lie in \(0, 1\]. Received: 1.1"),
        ({"views": 0}, "views must be at least 1.*views=0"),
        ({"views": 4}, "views must .* divide the batch.*views=4, batch_size=6"),
        ({"views": 2, "augment": False}, "be 1 without augment.*augment=False"),
    ],
    ids=str,
)
def test_crops_colors_and_views_that_do_not_fit_are_refused(
    images: ImageArrays, settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingBatches(images, 6, **{"augment": True, **settings})


def test_augmentation_differs_from_epoch_to_epoch(images: ImageArrays, take: Take) -> None:
    (first, first_labels), (second, second_labels) = take(
        TrainingBatches(images, 20, augment=True), 2
    )
    unchanged = [
        np.array_equal(first[a], second[b])
        for a, b in zip(np.argsort(first_labels), np.argsort(second_labels), strict=True)
    ]
    assert np.mean(unchanged) < 0.5


def test_augmentation_leaves_the_order_as_it_is(images: ImageArrays, take: Take) -> None:
    plain, augmented = (
        [labels for _, labels in take(TrainingBatches(images, 6, augment=augment), 7)]
        for augment in (False, True)
    )
    np.testing.assert_array_equal(plain, augmented)


def test_labels_may_be_multi_hot(images: ImageArrays, take: Take) -> None:
    rows = np.eye(20, dtype=np.int64)
    multi_hot = ImageArrays(images.images, rows)
    for pixels, labels in take(TrainingBatches(multi_hot, 6), 3):
        np.testing.assert_array_equal(pixels, images.images[labels.argmax(axis=1)])


def test_shapes_are_known_before_the_first_batch(images: ImageArrays) -> None:
    for augment in (False, True):
        pixels, labels = TrainingBatches(images, 6, augment=augment).dataset().element_spec
        assert pixels.shape[1:] == SHAPE
        assert labels.shape.rank == 1


@pytest.mark.parametrize("samples_per_class", [0, 2])
def test_tensorflow_has_nothing_to_say_of_the_functions_of_a_dataset(
    rng: np.random.Generator, samples_per_class: int, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = ImageArrays(rng.integers(0, 256, (20, *SHAPE), dtype=np.uint8), np.arange(20) // 2)
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    try:
        batches = TrainingBatches(pairs, 4, augment=True, samples_per_class=samples_per_class)
        next(iter(batches.dataset()))
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


@pytest.mark.parametrize("batch_size", [-1, 0, 21])
def test_batch_size_must_fit_the_set(images: ImageArrays, batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size .* 1 \.\. 20.*Received: {batch_size}"):
        TrainingBatches(images, batch_size)


def test_batches_of_a_folder_obey_the_same_laws(images: ImageArrays, tmp_path: Path) -> None:
    for label, image in enumerate(images.images):
        path = tmp_path / f"{label % 2}" / f"{label:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    folder = ImageFolder(tmp_path, SHAPE)
    stream = take_dataset(TrainingBatches(folder, 6, augment=True), 7)
    assert_same(take_dataset(TrainingBatches(folder, 6, augment=True), 5, 2), stream[2:])
    for pixels, labels in take_dataset(TrainingBatches(folder, 6), 3):
        for image, label in zip(pixels, labels, strict=True):
            members = images.images[images.labels % 2 == label]
            assert any(np.array_equal(image, member) for member in members)


def test_others_of_the_batch_stand_in_for_what_can_no_longer_be_read(
    images: ImageArrays, tmp_path: Path
) -> None:
    for label in range(4):
        (tmp_path / f"{label}").mkdir()
        Image.fromarray(images.images[label]).save(tmp_path / f"{label}" / "1.png")
    batches = TrainingBatches(ImageFolder(tmp_path, SHAPE), 4)
    (tmp_path / "2" / "1.png").unlink()
    pixels, labels = next(batches.arrays())
    assert set(labels.tolist()) == {0, 1, 3}
    np.testing.assert_array_equal(pixels, images.images[labels])
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"Received: 4 others; the first: \('.*1\.png', "):
        next(batches.arrays())


@pytest.mark.parametrize("first_step", [0, 2, 4])
def test_dataset_ends_after_so_many_batches(images: ImageArrays, first_step: int) -> None:
    batches = TrainingBatches(images, 6, seed=3, augment=True)
    expected = take_dataset(batches, 4, first_step)
    for num_steps in (0, 1, 4):
        found = [
            tuple(np.array(part) for part in batch)
            for batch in batches.dataset(first_step, num_steps)
        ]
        assert len(found) == num_steps
        assert_same(found, expected[:num_steps])
