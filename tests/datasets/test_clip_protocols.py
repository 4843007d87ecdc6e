"""Laws of the protocols on clips, on the real data where it lies."""

import os
from pathlib import Path

import numpy as np
import pytest

from tfpqn.datasets import load_protocol

BESIDE_THE_CHECKOUT = Path(__file__).parents[2].parent / "shared" / "data" / "tfds"


@pytest.fixture(scope="module")
def clips_dir() -> Path:
    folder = Path(os.environ.get("TFPQN_DATA_DIR", BESIDE_THE_CHECKOUT)).parent / "clips"
    if not (folder / "msr_action3d_depth64.npz").is_file():
        pytest.skip(
            "needs msr_action3d_depth64.npz in a folder `clips` beside the folder that "
            "TFPQN_DATA_DIR names"
        )
    return folder


def write_msr(folder: Path, **changes: np.ndarray) -> None:
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


def test_number_of_frames_of_images_is_refused() -> None:
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
def test_an_msr_action3d_file_of_other_kinds_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    write_msr(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_protocol("msr-action3d").load(tmp_path, num_frames=4)


def test_missing_msr_action3d_names_the_file(tmp_path: Path) -> None:
    message = r"msr_action3d_depth64\.npz.*--data-dir DIR.*Received: .*nowhere"
    with pytest.raises(FileNotFoundError, match=message):
        load_protocol("msr-action3d").load(tmp_path / "nowhere")


def test_odd_subjects_are_searched_and_even_ones_search(tmp_path: Path) -> None:
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


def test_msr_action3d_has_the_sizes_of_the_documents(clips_dir: Path) -> None:
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
def test_missing_video_set_names_the_line_that_prepares_it(
    name: str, set_name: str, extra: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="Received: .*nowhere.*--data-dir") as caught:
        load_protocol(name).load(tmp_path / "nowhere")
    assert (
        f"import tensorflow_datasets as tfds{extra}; tfds.builder('{set_name}', data_dir='DIR')"
        ".download_and_prepare(file_format='array_record')"
    ) in str(caught.value)
    assert not (tmp_path / "nowhere").exists()
