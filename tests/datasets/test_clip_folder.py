"""Laws of a folder of videos: files in, clips out, and no broken file is fatal."""

import sys

import numpy as np
import pytest

from tests.datasets.videos import SIZE, encode_video, numbers_of
from tfpqn.datasets import ClipFolder, TrainingBatches, split_folder
from tfpqn.datasets.clips.frame_sampling import choose_frames

pytest.importorskip("av", reason="needs PyAV: pip install 'tfpqn[video]'")

LENGTHS = {"ant/1.avi": 12, "ant/old/2.MP4": 5, "bee/3.gif": 1, "bee/4.mkv": 9, "loose.mp4": 3}
BROKEN_IDS = {"ant/empty.mp4", "bee/text.mp4", "bee/truncated.mov"}
SHAPE = (*SIZE, 3)


@pytest.fixture
def folder(tmp_path):
    for name, length in LENGTHS.items():
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_video(length, path.suffix[1:].lower()))
    return tmp_path / "videos"


@pytest.fixture
def broken(folder):
    (folder / "ant" / "empty.mp4").touch()
    (folder / "bee" / "text.mp4").write_text("no video")
    (folder / "bee" / "truncated.mov").write_bytes(encode_video(8, "mov")[:900])
    return folder


@pytest.mark.parametrize("shape", [SHAPE, (40, 8, 1)])
def test_batches_hold_the_uniformly_sampled_frames_in_order_and_shape(folder, shape):
    clips = ClipFolder(folder, shape, 4)
    batches = list(clips.batches(2))
    np.testing.assert_array_equal(np.concatenate([b.positions for b in batches]), np.arange(5))
    for clip, id_ in zip(np.concatenate([b.images for b in batches]), clips.ids, strict=True):
        assert clip.shape == (4, *shape)
        assert numbers_of(clip) == choose_frames(LENGTHS[id_], 4).tolist()


def test_broken_videos_are_skipped_and_named_in_a_line(broken):
    clips = ClipFolder(broken, SHAPE, 4)
    positions = np.concatenate([batch.positions for batch in clips.batches(3)])
    assert set(clips.ids[positions]) == set(LENGTHS)
    assert set(clips.skipped) == BROKEN_IDS == set(clips.ids) - set(clips.readable().ids)
    assert all(len(reason.splitlines()) == 1 for reason in clips.skipped.values())


def test_missing_pyav_is_noted_before_the_first_batch(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'tfpqn\[video\]'"):
        ClipFolder(folder, SHAPE, 4)


def test_folder_can_be_split_and_trained_on(folder):
    splits = split_folder(ClipFolder(folder, SHAPE, 4).readable())
    assert len(splits.query) == len(splits.database) == 2
    batches = TrainingBatches(splits.train, 2, augment=True)
    (first, labels), _ = batches.dataset().take(2).as_numpy_iterator()
    assert first.shape == (2, 4, *SHAPE)
    assert sorted(labels.tolist()) == [0, 1]
    (again, _) = next(batches.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(first, again)
