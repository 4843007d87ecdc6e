"""Laws of the protocols on clips: moving digits, and the real data where it lies."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tfpqn.datasets import load_protocol
from tfpqn.datasets.clips.moving_digits import CANVAS, MOTIONS

BESIDE_THE_CHECKOUT = Path(__file__).parents[2].parent / "shared" / "data" / "tfds"


@pytest.fixture(scope="module")
def clips_dir():
    folder = Path(os.environ.get("TFPQN_DATA_DIR", BESIDE_THE_CHECKOUT)).parent / "clips"
    if not (folder / "msr_action3d_depth64.npz").is_file():
        pytest.skip(
            "needs msr_action3d_depth64.npz in a folder `clips` beside the folder that "
            "TFPQN_DATA_DIR names"
        )
    return folder


def write_msr(folder, **changes):
    """A file like that of MSR-Action3D: ten subjects with one clip each."""
    lengths = np.arange(3, 13)
    numbers = np.repeat(np.arange(10), lengths).astype(np.uint8)
    arrays = {
        "frames": numbers[:, None, None] * np.ones((64, 64), np.uint8),
        "offsets": np.cumsum([0, *lengths]),
        "label": np.arange(10) % 2,
        "subject": np.arange(1, 11),
        "class_names": np.array(["wave", "throw"]),
    }
    np.savez(folder / "msr_action3d_depth64.npz", **{**arrays, **changes})


def test_number_of_frames_of_images_is_refused():
    with pytest.raises(ValueError, match="items of digits are images. Received: 4"):
        load_protocol("digits").load(num_frames=4)
    with pytest.raises(ValueError, match="num_frames must be at least 1. Received: 0"):
        load_protocol("moving-digits").load(num_frames=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": np.array(["a"] * 10)}, "must hold an integer subject for each of 10 clips"),
        ({"subject": np.array([1])}, r"an integer subject .* Received: int64 \(1,\)"),
        ({"frames": np.zeros((75, 5, 4), np.uint8)}, "of even height and width.*Received: 5 x 4"),
    ],
)
def test_an_msr_action3d_file_of_other_kinds_is_refused(tmp_path, changes, message):
    write_msr(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_protocol("msr-action3d").load(tmp_path, num_frames=4)


def test_missing_msr_action3d_names_the_file(tmp_path):
    message = r"msr_action3d_depth64\.npz.*--data-dir DIR.*Received: .*nowhere"
    with pytest.raises(FileNotFoundError, match=message):
        load_protocol("msr-action3d").load(tmp_path / "nowhere")


def test_odd_subjects_are_searched_and_even_ones_search(tmp_path):
    write_msr(tmp_path)
    splits = load_protocol("msr-action3d").load(tmp_path, num_frames=4)
    assert splits.train is splits.database
    assert splits.database.ids.tolist() == [0, 2, 4, 6, 8]
    assert splits.query.ids.tolist() == [1, 3, 5, 7, 9]
    assert splits.query.label_names == ("wave", "throw")
    assert not splits.query.mirrors_alike
    (batch,) = splits.query.batches(8)
    assert batch.images.shape == (5, 4, 32, 32, 1)
    assert batch.images[:, 0, 0, 0, 0].tolist() == [1, 3, 5, 7, 9]


def test_msr_action3d_has_the_sizes_of_the_documents(clips_dir):
    splits = load_protocol("msr-action3d").load(clips_dir)
    assert (len(splits.database), len(splits.query)) == (283, 273)
    assert not set(splits.database.ids) & set(splits.query.ids)
    assert len(splits.query.label_names) == 20
    batch = next(splits.query.batches(8))
    assert batch.images.shape == (8, *splits.query.item_shape) == (8, 16, 32, 32, 1)


@pytest.mark.parametrize(
    ("name", "set_name", "extra"),
    [
        ("ucf101-1", "ucf101/ucf101_1_256", ""),
        ("hmdb51-1", "hmdb51/split_1", ", tfpqn.datasets.clips.hmdb51"),
    ],
)
def test_missing_video_set_names_the_line_that_prepares_it(name, set_name, extra, tmp_path):
    with pytest.raises(FileNotFoundError, match="Received: .*nowhere.*--data-dir") as caught:
        load_protocol(name).load(tmp_path / "nowhere")
    assert (
        f"import tensorflow_datasets as tfds{extra}; tfds.builder('{set_name}', data_dir='DIR')"
        ".download_and_prepare(file_format='array_record')"
    ) in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


# Moving digits: only time tells their directions apart.


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
