"""Laws of the protocol on clips: only time tells the directions of moving digits apart."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tfpqn.datasets import load_protocol
from tfpqn.datasets.clips.moving_digits import CANVAS, MOTIONS


def test_number_of_frames_of_images_is_refused():
    with pytest.raises(ValueError, match="items of digits are images. Received: 4"):
        load_protocol("digits").load(num_frames=4)
    with pytest.raises(ValueError, match="num_frames must be at least 1. Received: 0"):
        load_protocol("moving-digits").load(num_frames=0)


@pytest.fixture(scope="module")
def splits():
    return load_protocol("moving-digits").load()


def frames_of(clips):
    """All stored frames, `[num_clips, 12, canvas, canvas]`."""
    return clips.frames.reshape(len(clips), 12, CANVAS, CANVAS)[clips.starts // 12]


def centres_of(frames):
    """Centre of brightness of each frame, `[num_clips, num_frames, 2]`; faint pixels are noise."""
    weights = np.where(frames > 50, frames.astype(np.float64), 0.0)
    total = weights.sum(axis=(2, 3))
    pixels = np.arange(CANVAS)
    rows = (weights.sum(axis=3) * pixels).sum(axis=2) / total
    columns = (weights.sum(axis=2) * pixels).sum(axis=2) / total
    return np.stack([rows, columns], axis=-1)


def test_sizes_are_those_of_the_description(splits):
    protocol = load_protocol("moving-digits")
    assert splits.train is splits.database
    for part, size in ((splits.database, 1440), (splits.query, 360)):
        assert len(part) == size
        assert part.image_shape == protocol.image_shape == (CANVAS, CANVAS, 1)
        assert part.num_frames == protocol.num_frames == 8
        assert not part.mirrors_alike
        assert len(set(part.label_names)) == len(MOTIONS) == 12
        assert np.bincount(part.labels).tolist() == [size // 12] * 12
        assert set(part.lengths.tolist()) == {12}
    ids = np.concatenate([splits.database.ids, splits.query.ids])
    np.testing.assert_array_equal(ids, np.arange(1800))


def test_digits_move_from_corner_to_corner(splits):
    centres = centres_of(frames_of(splits.query))
    names = np.array(splits.query.label_names)[splits.query.labels]
    for place, frame in enumerate((0, 11)):
        corners = [name.split(" to ")[place] for name in names]
        low = np.array([["bottom" in corner, "right" in corner] for corner in corners])
        # A digit's centre of brightness is not the middle of its pixels.
        assert np.mean((centres[:, frame] > CANVAS / 2) == low) > 0.95
    # Straight and at an even pace, up to the noise.
    halfway = (centres[:, 0] + centres[:, 11]) / 2
    assert np.abs((centres[:, 5] + centres[:, 6]) / 2 - halfway).max() < 1.0


def test_no_frame_tells_the_motion_and_two_halves_do(splits):
    database, query = (centres_of(frames_of(part)) for part in (splits.database, splits.query))

    def score(summary):
        neighbours = KNeighborsClassifier(15).fit(summary(database), splits.database.labels)
        return neighbours.score(summary(query), splits.query.labels)

    for frame in range(12):
        assert score(lambda centres, at=frame: centres[:, at]) < 0.5, frame
    assert score(lambda centres: centres.mean(axis=1)) < 0.5
    halves = score(lambda c: np.hstack([c[:, :6].mean(axis=1), c[:, 6:].mean(axis=1)]))
    assert halves > 0.85
