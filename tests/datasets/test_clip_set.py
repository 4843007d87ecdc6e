"""Laws that all sets of clips share, shown on clips in memory."""

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.datasets import ClipArrays, ClipSet, ImageSet, sample_jittered, sample_uniformly

LENGTHS = (9, 0, 2, 30, 4)
SHAPE = (4, 5, 3)


@pytest.fixture
def clips(rng: np.random.Generator) -> list[np.ndarray]:
    """Random clips of several lengths, the second without any frame."""
    return [rng.integers(0, 256, (length, *SHAPE), dtype=np.uint8) for length in LENGTHS]


@pytest.fixture
def clip_set(clips: list[np.ndarray]) -> ClipArrays:
    ids = np.array(list("vwxyz"))
    return ClipArrays.from_clips(clips, np.arange(5), ids, num_frames=6, mirrors_alike=False)


def load(clip_set: ClipSet, positions: list[int], seeds: list[int] | None = None) -> tuple:
    """Clips and positions."""
    return clip_set.read(np.array(positions), None if seeds is None else np.array(seeds))


def test_clips_are_items_of_an_image_set(clip_set: ClipArrays) -> None:
    assert isinstance(clip_set, ClipSet) and isinstance(clip_set, ImageSet)
    assert clip_set.image_shape == SHAPE
    assert clip_set.num_frames == 6
    assert clip_set.item_shape == (6, *SHAPE)
    assert ImageSet.mirrors_alike and not clip_set.mirrors_alike


def test_without_seeds_clips_are_sampled_uniformly(
    clip_set: ClipArrays, clips: list[np.ndarray]
) -> None:
    batches = list(clip_set.batches(3, np.array([3, 0, 4, 2, 0])))
    images = np.concatenate([batch.images for batch in batches])
    assert images.dtype == np.uint8
    assert [len(batch.images) for batch in batches] == [3, 2]
    for position, frames in zip([3, 0, 4, 2, 0], images, strict=True):
        np.testing.assert_array_equal(
            frames, clips[position][sample_uniformly(len(clips[position]), 6)]
        )


def test_with_seeds_each_clip_is_sampled_by_its_own(
    clip_set: ClipArrays, clips: list[np.ndarray]
) -> None:
    seeds = [5, -(2**63), 2**63 - 1, 0]
    images, positions = load(clip_set, [3, 3, 0, 2], seeds)
    assert positions.tolist() == [3, 3, 0, 2]
    for position, seed, frames in zip(positions.tolist(), seeds, images, strict=True):
        chosen = sample_jittered(len(clips[position]), 6, seed)
        np.testing.assert_array_equal(frames, clips[position][chosen])
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize("seeds", [None, [1, 2, 3]])
def test_clip_without_a_frame_is_left_out_and_named(
    clip_set: ClipArrays, seeds: list[int] | None
) -> None:
    _, positions = load(clip_set, [0, 1, 2], seeds)
    assert positions.tolist() == [0, 2]
    assert clip_set.skipped == {"w": "A clip must have at least one frame. Received: 0"}


def test_readable_leaves_out_clips_without_a_frame_and_still_names_them(
    clip_set: ClipArrays,
) -> None:
    readable = clip_set.readable()
    assert readable.ids.tolist() == list("vxyz")
    assert readable.labels.tolist() == [0, 2, 3, 4]
    assert readable.skipped.keys() == {"w"}
    assert len(next(readable.batches(8)).images) == 4


def test_set_without_a_readable_clip_is_refused() -> None:
    clips = ClipArrays(np.zeros((0, 4, 4, 1), np.uint8), [0, 0, 0], [1, 2], num_frames=2)
    with pytest.raises(ValueError, match="at least one readable item. Received: 2 items"):
        clips.readable()


def test_encoded_frames_decode_to_the_uniformly_sampled_frames(
    clip_set: ClipArrays, clips: list[np.ndarray]
) -> None:
    decoded = [tf.io.decode_png(data).numpy() for data in clip_set.encoded_frames(0)]
    np.testing.assert_array_equal(decoded, clips[0][sample_uniformly(9, 6)])


def test_one_encoded_image_of_a_clip_is_refused(clip_set: ClipArrays) -> None:
    with pytest.raises(TypeError, match=r"Received: encoded_image\(2\)"):
        clip_set.encoded_image(2)
