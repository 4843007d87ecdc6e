"""Laws of the clips of tables: MSR-Action3D in its file, UCF-101 and HMDB-51 as prepared sets."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import research.datasets.protocols  # noqa: F401
from research.datasets import tfds_clips
from research.datasets.hmdb51 import LABEL_NAMES, list_videos
from research.datasets.tfds_clips import TfdsClips
from tests.datasets.videos import encode_video, numbers_of
from tfpqn.datasets import load_protocol
from tfpqn.datasets.clips.frame_sampling import choose_frames

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
        ("hmdb51-1", "hmdb51/split_1", ", research.datasets.hmdb51"),
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


# Name of the video: its mark in the lists of split 1, and how many frames it has.
VIDEOS = {
    "run": {"r0.avi": (1, 9), "r1.avi": (2, 5), "r2.avi": (0, 3)},
    "wave": {"w0.avi": (1, 4), "w1.avi": (1, 12), "w2.avi": (2, 1)},
}


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    lists = folder / "testTrainMulti_7030_splits"
    lists.mkdir()
    for label, videos in VIDEOS.items():
        (folder / "hmdb51_org" / label).mkdir(parents=True)
        for name, (_, length) in videos.items():
            data = encode_video(length, "avi", (48, 64))
            (folder / "hmdb51_org" / label / name).write_bytes(data)
        rows = [f"{name} {mark} \n" for name, (mark, _) in videos.items()]
        (lists / f"{label}_test_split1.txt").write_text("".join(rows))
        (lists / f"{label}_test_split2.txt").write_text(f"{label[0]}9.avi 1 \n")
    return folder


@pytest.fixture(scope="module")
def data_dir(manual, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    builder = tfds.builder("hmdb51/split_1", data_dir=folder)
    builder.download_and_prepare(file_format="array_record", download_config=config)
    return folder


def test_lists_say_which_videos_of_the_51_actions_train_and_which_test(manual):
    assert sorted(set(LABEL_NAMES)) == LABEL_NAMES and len(LABEL_NAMES) == 51
    for part, names in (("train", ["r0.avi", "w0.avi", "w1.avi"]), ("test", ["r1.avi", "w2.avi"])):
        assert [path.name for path in list_videos(manual, 1, part)] == names


def test_missing_videos_and_lists_are_named(manual):
    with pytest.raises(FileNotFoundError, match=r"2 of 2 missing, the first: .*run.r9\.avi"):
        list_videos(manual, 2, "train")
    with pytest.raises(FileNotFoundError, match="lists of split 3. Received: none"):
        list_videos(manual, 3, "train")


def test_prepared_set_gives_the_protocol_its_clips(data_dir):
    splits = load_protocol("hmdb51-1").load(data_dir, num_frames=4)
    assert splits.train is splits.database
    assert splits.query.mirrors_alike
    for part, lengths in ((splits.database, {9, 4, 12}), (splits.query, {5, 1})):
        assert {part.label_names[label] for label in part.labels} == {"run", "wave"}
        clips = np.concatenate([batch.images for batch in part.batches(2)])
        assert clips.shape == (len(lengths), 4, 112, 112, 3)
        numbers = {tuple(numbers_of(clip)) for clip in clips}
        assert numbers == {tuple(choose_frames(length, 4).tolist()) for length in lengths}
    assert not set(splits.database.ids) & set(splits.query.ids)


def test_only_the_frames_that_a_seed_draws_are_decoded(data_dir, monkeypatch):
    decode, decoded = tfds_clips.decode_image_bytes, []
    monkeypatch.setattr(
        tfds_clips, "decode_image_bytes", lambda *given: decoded.append(given) or decode(*given)
    )
    clips = TfdsClips("hmdb51/split_1", "train", (48, 64, 3), 4, data_dir=data_dir)
    assert not decoded
    drawn = [numbers_of(clips.read_item(position, 3)) for position in range(3)]
    assert sorted(drawn) == sorted(choose_frames(n, 4, 3).tolist() for n in (4, 9, 12))
    assert len(decoded) == 12
