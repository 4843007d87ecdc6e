"""Laws of the training batches of clips: those of images, and one treatment for all frames."""

import numpy as np
import pytest

from tests.datasets.taking import Take
from tfpqn.datasets import ClipArrays, TrainingBatches

SHAPE = (6, 7, 1)


def make(rng: np.random.Generator, mirrors_alike: bool = True) -> ClipArrays:
    """Twenty random clips of 5 to 24 frames; the label of each is its position."""
    clips = [rng.integers(0, 256, (5 + i, *SHAPE), dtype=np.uint8) for i in range(20)]
    return ClipArrays.from_clips(clips, np.arange(20), num_frames=4, mirrors_alike=mirrors_alike)


@pytest.mark.parametrize("augment", [False, True])
def test_batch_of_a_step_does_not_depend_on_where_the_stream_began(
    rng: np.random.Generator, augment: bool, take: Take
) -> None:
    batches = TrainingBatches(make(rng), 6, seed=3, augment=augment)
    stream = take(batches, 8)
    for first in (1, 2, 3, 6):
        for one, other in zip(take(batches, 8 - first, first), stream[first:], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_without_augmentation_clips_are_sampled_uniformly(
    rng: np.random.Generator, take: Take
) -> None:
    clips = make(rng)
    for frames, labels in take(TrainingBatches(clips, 6), 4):
        assert frames.shape == (6, 4, *SHAPE)
        for clip, label in zip(frames, labels.tolist(), strict=True):
            np.testing.assert_array_equal(clip, clips.read_item(label))


def ways_of(frame: np.ndarray, max_shift: int) -> dict[bytes, tuple[bool, int, int]]:
    """What augmentation may make of a frame, with (flip, row, column)."""
    height, width, _ = frame.shape
    padded = np.pad(frame, ((max_shift,) * 2, (max_shift,) * 2, (0, 0)), mode="reflect")
    found = {}
    for row in range(2 * max_shift + 1):
        for column in range(2 * max_shift + 1):
            window = padded[row : row + height, column : column + width]
            found[window.tobytes()] = (False, row, column)
            found[window[:, ::-1].tobytes()] = (True, row, column)
    return found


@pytest.mark.parametrize("mirrors_alike", [False, True])
def test_all_frames_of_a_clip_are_shifted_and_flipped_alike(
    rng: np.random.Generator, mirrors_alike: bool, take: Take
) -> None:
    clips = make(rng, mirrors_alike)
    known = {}
    for label, (start, length) in enumerate(zip(clips.starts, clips.lengths, strict=True)):
        for number, frame in enumerate(clips.frames[start : start + length]):
            known.update({b: (label, number, way) for b, way in ways_of(frame, 1).items()})
    flips, drawn = set(), set()
    for frames, labels in take(TrainingBatches(clips, 20, augment=True, max_shift=1), 4):
        for clip, label in zip(frames, labels.tolist(), strict=True):
            found = [known[frame.tobytes()] for frame in clip]
            assert {source for source, _, _ in found} == {label}
            assert len({way for _, _, way in found}) == 1
            numbers = tuple(number for _, number, _ in found)
            assert numbers == tuple(sorted(numbers))
            flips.add(found[0][2][0])
            drawn.add((label, numbers))
    # Clips that must not be mirrored are not; and from epoch to epoch other frames are drawn.
    assert flips == ({False, True} if mirrors_alike else {False})
    assert len(drawn) > 60


def test_seeds_decide_the_frames(rng: np.random.Generator, take: Take) -> None:
    clips = make(rng)
    one, again, other = (
        take(TrainingBatches(clips, 20, seed=seed, augment=True, max_shift=0), 1)[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0][np.argsort(one[1])], other[0][np.argsort(other[1])])


def test_shapes_are_known_before_the_first_batch(rng: np.random.Generator) -> None:
    for augment in (False, True):
        spec, _ = TrainingBatches(make(rng), 6, augment=augment).dataset().element_spec
        assert spec.shape[1:] == (4, *SHAPE)
