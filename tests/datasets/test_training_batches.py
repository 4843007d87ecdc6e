"""Laws of the training batches of images and clips: they depend on seed and step alone."""

import itertools

import numpy as np
import pytest
from PIL import Image

from tfpqn.datasets import ClipArrays, ImageArrays, ImageFolder, TrainingBatches

SHAPE = (6, 7, 3)


@pytest.fixture
def images(rng):
    """Twenty random images; the label of each is its position."""
    return ImageArrays(rng.integers(0, 256, (20, *SHAPE), dtype=np.uint8), np.arange(20))


@pytest.fixture
def clips(rng):
    """Twenty random clips of 5 to 24 frames; the label of each is its position."""
    offsets = np.cumsum([0, *range(5, 25)])
    frames = rng.integers(0, 256, (offsets[-1], 6, 7, 1), dtype=np.uint8)
    return ClipArrays(frames, offsets, np.arange(20), num_frames=4, mirrors_alike=False)


@pytest.fixture
def folder(images, tmp_path):
    """The first ten images as files, each with a label of its own."""
    for label, image in enumerate(images.images[:10]):
        path = tmp_path / f"{label}" / "1.png"
        path.parent.mkdir()
        Image.fromarray(image).save(path)
    return ImageFolder(tmp_path, SHAPE)


def take(batches, count, first_step=0):
    return list(itertools.islice(batches.arrays(first_step), count))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


EVERYTHING = {"min_area": 0.3, "color_jitter": 0.4, "cutout": 2, "views": 2, "augment": True}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=len)
@pytest.mark.parametrize("items", ["images", "clips", "folder"])
def test_batch_of_a_step_does_not_depend_on_where_the_stream_began(items, settings, request):
    batches = TrainingBatches(request.getfixturevalue(items), 6, seed=3, **settings)
    stream = take(batches, 9)
    # The middle of an epoch, the ends of epochs, and a step before each.
    for first in (1, 2, 3, 5, 6):
        assert_same(take(batches, 9 - first, first), stream[first:])
    far = 3 * 10**9 + 1
    assert_same(take(batches, 2, far)[1:], take(batches, 1, far + 1))


@pytest.mark.parametrize("items", ["images", "clips", "folder"])
def test_dataset_gives_the_arrays_and_ends_where_it_is_told_to(items, request):
    source = request.getfixturevalue(items)
    batches = TrainingBatches(source, 6, augment=True)
    pixels, labels = batches.dataset().element_spec
    assert (pixels.shape, labels.shape) == ((6, *source.item_shape), (6,))
    assert_same(list(batches.dataset(2, 4).as_numpy_iterator()), take(batches, 4, 2))
    assert not list(batches.dataset(2, 0))


def test_no_tuning_thread_of_the_dataset_holds_up_a_process_that_ends(images):
    assert not TrainingBatches(images, 16, seed=0).dataset(0, 1).options().autotune.enabled


def test_each_epoch_is_another_permutation(images):
    assert TrainingBatches(images, 6).steps_per_epoch == 3  # the last two are left out
    stream = take(TrainingBatches(images, 5), 20)
    orders = np.concatenate([labels for _, labels in stream]).reshape(5, 20)
    np.testing.assert_array_equal(np.sort(orders), [np.arange(20)] * 5)
    assert len({tuple(order) for order in orders} | {tuple(range(20))}) == 6


@pytest.mark.parametrize("items", ["images", "clips"])
@pytest.mark.parametrize("augment", [False, True])
def test_seeds_differ_and_equal_seeds_agree(items, augment, request):
    source = request.getfixturevalue(items)
    first, again, second = (
        take(TrainingBatches(source, 20, seed=seed, augment=augment), 1) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert not np.array_equal(first[0][1], second[0][1])
    in_order = [pixels[np.argsort(labels)] for pixels, labels in (*first, *second)]
    assert np.array_equal(*in_order) == (not augment)


def test_others_of_the_batch_stand_in_for_what_can_no_longer_be_read(folder, images):
    batches = TrainingBatches(folder, 10)
    (folder.folder / "2" / "1.png").unlink()
    pixels, labels = next(batches.arrays())
    assert set(labels.tolist()) == set(range(10)) - {2}
    np.testing.assert_array_equal(pixels, images.images[labels])
    for path in folder.folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"Received: 10 others; the first: \('.*1\.png', "):
        next(batches.arrays())


@pytest.mark.parametrize("items", ["images", "clips"])
def test_parts_of_a_batch_are_together_the_whole_and_nothing_else_is_read(
    items, request, monkeypatch
):
    source = request.getfixturevalue(items)
    options = {"min_area": 0.5, "cutout": 2, "color_jitter": 0.3, "views": 2}
    batches = TrainingBatches(source, 12, seed=3, augment=True, **options)
    whole = take(batches, 3)
    read = []

    def note(positions, seeds):
        read.extend(positions)
        return type(source).read(source, positions, seeds)

    monkeypatch.setattr(source, "read", note)
    parts = [
        [tuple(map(np.asarray, each)) for each in batches.dataset(0, 3, (number, 3))]
        for number in range(3)
    ]
    assert len(read) == 3 * 12
    joined = [
        tuple(map(np.concatenate, zip(*step, strict=True))) for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("part", [(0, 5), (3, 3), (-1, 3)])
def test_a_part_that_a_batch_does_not_have_is_refused(images, part):
    with pytest.raises(ValueError, match="one of equal parts of batch_size=12, counted from 0"):
        TrainingBatches(images, 12).dataset(part=part)


def flips_and_shifts(image, max_shift):
    """(flip, row, column) of every image that augmentation may give."""
    height, width, _ = image.shape
    padded = np.pad(image, ((max_shift,) * 2, (max_shift,) * 2, (0, 0)), mode="reflect")
    found = {}
    for row, column in itertools.product(range(2 * max_shift + 1), repeat=2):
        window = padded[row : row + height, column : column + width]
        found[window.tobytes()] = (False, row, column)
        found[window[:, ::-1].tobytes()] = (True, row, column)
    return found


@pytest.mark.parametrize("max_shift", [0, 2])
def test_augmentation_flips_and_shifts_and_does_nothing_else(images, max_shift):
    ways = [flips_and_shifts(image, max_shift) for image in images.images]
    seen = [
        ways[label][image.tobytes()]
        for batch in take(TrainingBatches(images, 20, augment=True, max_shift=max_shift), 40)
        for image, label in zip(*batch, strict=True)
    ]
    # 800 draws of at most 50 ways: each is there, none is a favourite.
    counts = [seen.count(way) for way in ways[0].values()]
    assert min(counts) > 0
    assert max(counts) < 3 * len(seen) / len(counts)


@pytest.mark.parametrize("mirrors_alike", [False, True])
def test_all_frames_of_a_clip_are_shifted_and_flipped_alike(clips, mirrors_alike):
    clips.mirrors_alike = mirrors_alike
    known = {
        data: (label, number, way)
        for label, (start, length) in enumerate(zip(clips.starts, clips.lengths, strict=True))
        for number, frame in enumerate(clips.frames[start : start + length])
        for data, way in flips_and_shifts(frame, 1).items()
    }
    flips, drawn = set(), set()
    for frames, labels in take(TrainingBatches(clips, 20, augment=True, max_shift=1), 4):
        for clip, label in zip(frames, labels.tolist(), strict=True):
            sources, numbers, ways = zip(*(known[frame.tobytes()] for frame in clip), strict=True)
            assert set(sources) == {label}
            assert len(set(ways)) == 1
            assert list(numbers) == sorted(numbers)
            flips.add(ways[0][0])
            drawn.add((label, numbers))
    # Clips that must not be mirrored are not; and from epoch to epoch other frames are drawn.
    assert flips == ({False, True} if mirrors_alike else {False})
    assert len(drawn) > 60


def test_views_of_an_item_stand_together_and_are_labelled_by_it(images):
    everyday = ImageArrays(images.images, np.zeros(20, np.int64))
    batches = TrainingBatches(everyday, 6, augment=True, max_shift=1, views=3)
    assert batches.steps_per_epoch == 10
    stream = take(batches, 10)
    labels = np.array([labels for _, labels in stream]).reshape(20, 3)
    np.testing.assert_array_equal(np.sort(labels, axis=0), np.repeat(np.arange(20)[:, None], 3, 1))
    views = np.array([pixels for pixels, _ in stream]).reshape(20, 3, *SHAPE)
    seen = [{view.tobytes() for view in of_item} for of_item in views]
    for label, of_item in zip(labels[:, 0], seen, strict=True):
        assert of_item <= flips_and_shifts(images.images[label], 1).keys()
    assert np.mean([len(of_item) > 1 for of_item in seen]) > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 21}, r"batch_size .* 1 \.\. 20.*Received: 21"),
        ({"max_shift": -1}, r"in 0 \.\. 5, for images of 6 x 7.*Received: -1"),
        ({"cutout": -1}, r"cutout must lie in 0 \.\. 14, for images of 6 x 7 pixels. Received: -1"),
        ({"color_jitter": 1.0}, r"color_jitter must lie in \[0, 1\). Received: 1.0"),
        ({"min_area": 0.0}, r"min_area must lie in \(0, 1\]. Received: 0.0"),
        ({"views": 0}, "views must be at least 1.*views=0"),
        ({"views": 4}, "views must .* divide the batch.*views=4, batch_size=6"),
        ({"views": 2, "augment": False}, "be 1 without augment.*augment=False"),
        ({"views": 2, "samples_per_class": 2}, "samples_per_class must be 0 with several views"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(images, settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingBatches(images, **{"batch_size": 6, "augment": True, **settings})
