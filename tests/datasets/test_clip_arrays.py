"""Laws of clips in memory: what is refused, and what a file must hold."""

from pathlib import Path

import numpy as np
import pytest

from tfpqn.datasets import ClipArrays


@pytest.fixture
def frames(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)


def make(frames: np.ndarray, offsets: object = (0, 3, 10), **changes: object) -> ClipArrays:
    return ClipArrays(frames, offsets, **{"labels": [0, 1], "num_frames": 3, **changes})


def test_attributes_are_what_was_given(frames: np.ndarray) -> None:
    clips = make(frames, ids=["a", "b"], label_names=["x", "y"])
    assert len(clips) == 2
    assert clips.labels.tolist() == [0, 1]
    assert clips.ids.tolist() == ["a", "b"]
    assert clips.label_names == ("x", "y")
    assert clips.image_shape == (4, 5, 3)
    assert clips.mirrors_alike
    assert make(frames).ids.tolist() == [0, 1]


def test_axis_of_a_single_channel_may_be_left_out(frames: np.ndarray) -> None:
    assert make(frames[..., 0]).image_shape == (4, 5, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_frames_of_another_dtype_are_refused(frames: np.ndarray, dtype: type) -> None:
    with pytest.raises(ValueError, match=f"frames must be uint8 .*Received: {np.dtype(dtype)}"):
        make(frames.astype(dtype))


@pytest.mark.parametrize("shape", [(10,), (10, 4), (10, 4, 5, 3, 1)])
def test_frames_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 .*Received: uint8 \(10,"):
        make(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("offsets", [(0, 6, 3, 10), (0, 3, 11), (0, 3, 9), (-1, 3, 10), (1, 3, 10)])
def test_offsets_that_do_not_cut_up_the_frames_are_refused(
    frames: np.ndarray, offsets: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="offsets must begin at 0, never fall, and end at 10"):
        make(frames, offsets)


@pytest.mark.parametrize("offsets", [(0.0, 3.0, 10.0), ((0, 10),), (), 3])
def test_offsets_that_are_no_list_of_integers_are_refused(
    frames: np.ndarray, offsets: object
) -> None:
    with pytest.raises(ValueError, match=r"offsets must be integers \[num_clips \+ 1\]"):
        make(frames, offsets)


def test_lengths_that_differ_are_refused(frames: np.ndarray) -> None:
    expected = "one entry per clip. Received: 2 clips, {} labels, {} ids"
    with pytest.raises(ValueError, match=expected.format(3, 2)):
        make(frames, labels=[0, 1, 2])
    with pytest.raises(ValueError, match=expected.format(2, 1)):
        make(frames, ids=["a"])


@pytest.mark.parametrize("num_frames", [0, -3])
def test_number_of_frames_must_be_positive(frames: np.ndarray, num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"num_frames .*Received: {num_frames}"):
        make(frames, num_frames=num_frames)


def test_subset_keeps_frames_labels_and_ids_together(frames: np.ndarray) -> None:
    part = make(frames, ids=["a", "b"]).subset(np.array([1]))
    assert (part.ids.tolist(), part.labels.tolist()) == (["b"], [1])
    np.testing.assert_array_equal(part.read_item(0), frames[[4, 6, 8]])


def test_clips_given_one_by_one_equal_those_given_by_offsets(frames: np.ndarray) -> None:
    clips = ClipArrays.from_clips([frames[:3], frames[3:]], [0, 1], num_frames=3)
    for position in (0, 1):
        np.testing.assert_array_equal(clips.read_item(position), make(frames).read_item(position))


def test_first_clip_of_another_size_is_named(frames: np.ndarray) -> None:
    clips = [frames, frames, frames[:, :3], frames[:, :2]]
    with pytest.raises(ValueError, match=r"\(4, 5, 3\). Received: clip 2 with frames of \(3, 5, 3"):
        ClipArrays.from_clips(clips, np.arange(4), num_frames=3)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip. Received: none"):
        ClipArrays.from_clips([], [], num_frames=3)


def test_file_gives_what_was_written(frames: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "clips.npz"
    arrays = {"frames": frames, "offsets": [0, 3, 10], "label": [1, 0]}
    np.savez(path, **arrays, class_names=np.array(["x", "y"]), id=np.array(["a", "b"]))
    clips = ClipArrays.from_npz(path, 3, mirrors_alike=False)
    assert (clips.label_names, clips.ids.tolist()) == (("x", "y"), ["a", "b"])
    assert (clips.labels.tolist(), clips.mirrors_alike) == ([1, 0], False)
    np.testing.assert_array_equal(clips.read_item(1), make(frames).read_item(1))
    np.savez(path, **arrays)
    assert (ClipArrays.from_npz(path, 3).label_names, len(ClipArrays.from_npz(path, 3))) == ((), 2)


def test_missing_arrays_are_named(frames: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", frames=frames)
    with pytest.raises(ValueError, match=r"without \['offsets', 'label'\]"):
        ClipArrays.from_npz(tmp_path / "clips.npz", 3)


def test_pickled_objects_are_refused(frames: np.ndarray, tmp_path: Path) -> None:
    labels = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "clips.npz", frames=frames, offsets=[0, 3, 10], label=labels)
    with pytest.raises(ValueError, match="of plain arrays. Received: Object arrays"):
        ClipArrays.from_npz(tmp_path / "clips.npz", 3)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clips.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"clips\.npz must be an \.npz"):
        ClipArrays.from_npz(tmp_path / "clips.npz", 3)


def test_single_array_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"clips\.npy must be an \.npz"):
        ClipArrays.from_npz(tmp_path / "clips.npy", 3)
