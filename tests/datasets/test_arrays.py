"""Laws of images and clips in memory, and of the part that all sets share."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.datasets import ClipArrays, ImageArrays, open_vectors
from tfpqn.datasets.clips.frame_sampling import choose_frames
from tfpqn.datasets.image_set import fingerprint

LENGTHS = (9, 0, 2, 30, 4)
PIXELS = np.zeros((7, 4, 5, 3), np.uint8)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)


@pytest.fixture
def clips(rng):
    """Random clips of several lengths, the second without any frame."""
    frames = rng.integers(0, 256, (sum(LENGTHS), 4, 5, 3), dtype=np.uint8)
    offsets, ids = np.cumsum([0, *LENGTHS]), np.array(list("vwxyz"))
    return ClipArrays(frames, offsets, np.arange(5), ids, num_frames=6)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("chosen", [None, [5, 0, 5, 2], []])
def test_batches_hold_the_chosen_images_in_order(pixels, batch_size, chosen):
    positions = None if chosen is None else np.array(chosen, np.int64)
    batches = list(ImageArrays(pixels, np.arange(7)).batches(batch_size, positions))
    assert all(len(batch.images) == batch_size for batch in batches[:-1])
    expected = np.arange(7) if chosen is None else positions
    found = [batch.positions for batch in batches]
    np.testing.assert_array_equal(np.concatenate([[], *found]), expected)
    for batch in batches:
        np.testing.assert_array_equal(batch.images, pixels[batch.positions])


def test_batches_are_read_as_they_are_wanted(pixels, monkeypatch):
    reads, read = [], ImageArrays.read
    monkeypatch.setattr(ImageArrays, "read", lambda *given: reads.append(given) or read(*given))
    batches = ImageArrays(pixels, np.arange(7)).batches(1)
    assert not reads
    next(batches)
    assert len(reads) <= 4  # the batch itself, two ahead, and one that is begun


def test_subset_keeps_labels_ids_names_and_metadata_together(pixels):
    labels, ids = np.eye(7, 3, dtype=np.int64), np.array(list("tuvwxyz"))
    images = ImageArrays(pixels, labels, ids, label_names=("a",))
    images.metadata = {"year": list(range(2001, 2008)), "place": np.array(list("abcdefg"))}
    for positions in (np.array([1, 6]), np.isin(np.arange(7), [1, 6])):
        part = images.subset(positions).subset(np.array([1, 0]))
        np.testing.assert_array_equal(part.images, pixels[[6, 1]])
        np.testing.assert_array_equal(part.labels, labels[[6, 1]])
        assert (part.ids.tolist(), part.label_names) == (["z", "u"], ("a",))
        metadata = {name: values.tolist() for name, values in part.metadata.items()}
        assert metadata == {"year": [2007, 2002], "place": ["g", "b"]}
    assert ImageArrays(pixels, labels).ids.tolist() == list(range(7))


@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_image_decodes_to_the_pixels(pixels, channels):
    images = ImageArrays(pixels[..., :channels], np.arange(7))
    decoded = tf.io.decode_image(images.encoded_image(4)).numpy()
    np.testing.assert_array_equal(decoded, images.images[4])


def test_names_as_labels_are_numbered(pixels):
    names = ["bee", "ant", "bee", "ant"]
    images = ImageArrays(pixels[:4], np.array(names))
    assert (images.labels.tolist(), images.label_names) == ([1, 0, 1, 0], ("ant", "bee"))
    images = ImageArrays(pixels[:4], names, label_names=["bee", "cat", "ant"])
    assert images.labels.tolist() == [0, 2, 0, 2]
    with pytest.raises(ValueError, match=r"among \['bee'\]. Received: \['ant'\]"):
        ImageArrays(pixels[:4], names, label_names=["bee"])


def test_a_column_of_labels_is_one_label_an_item(pixels):
    for labels in (np.arange(250, 257), ["a", "b", "a", "b", "a", "b", "a"]):
        flat = ImageArrays(pixels, labels)
        column = ImageArrays(pixels, np.array(labels)[:, np.newaxis])
        assert column.labels.tolist() == flat.labels.tolist()
        assert column.label_names == flat.label_names


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (np.zeros((7, 4, 5), np.uint8), {}, r"images must be uint8 .*Received: uint8 \(7, 4, 5\)"),
        (np.zeros((7, 4, 5, 3)), {}, "images must be uint8 .*Received: float64"),
        (PIXELS, {"labels": [0]}, "Received: 7 images, 1 labels, 7 ids"),
        (PIXELS, {"ids": np.zeros((7, 1))}, r"ids must have shape \[num_images\].*\[7, 1\]"),
        (PIXELS, {"labels": np.full(7, 0.5)}, "labels must be integers.*0.5"),
        (PIXELS, {"labels": np.full(7, np.nan)}, "labels must be integers.*nan"),
        (PIXELS, {"labels": np.full((7, 2), 3)}, "rows .* of 0 and 1.*3"),
        (PIXELS, {"labels": [None] * 7}, "labels must be integers.*None"),
    ],
)
def test_images_that_cannot_be_are_refused(images, changes, message):
    with pytest.raises(ValueError, match=message):
        ImageArrays(images, **{"labels": range(7), **changes})


def test_fingerprint_tells_items_and_their_order_apart():
    ids = np.array([3, 1, 2])
    assert fingerprint(ids) == fingerprint(ids.copy())
    others = [np.array([1, 2, 3]), np.array([3, 1]), np.array([31, 2]), np.array([], np.int64)]
    assert len({fingerprint(ids), *map(fingerprint, others)}) == 5


# Clips


def test_without_seeds_clips_are_sampled_uniformly_and_with_seeds_at_random(clips):
    positions, seeds = np.array([3, 3, 0, 2]), np.array([5, -(2**63), 2**63 - 1, 0])
    for given in (None, seeds):
        batch = clips.read(positions, given)
        np.testing.assert_array_equal(batch.positions, positions)
        for position, seed, frames in zip(positions, seeds, batch.images, strict=True):
            length = LENGTHS[position]
            chosen = choose_frames(length, 6, None if given is None else int(seed))
            np.testing.assert_array_equal(frames, clips.frames[clips.starts[position] + chosen])


def test_clip_without_a_frame_is_left_out_and_named(clips):
    assert clips.read(np.array([0, 1, 2]), np.array([1, 2, 3])).positions.tolist() == [0, 2]
    assert clips.skipped == {"w": "A clip must have at least one frame. Received: 0"}
    readable = clips.readable()
    assert (readable.ids.tolist(), readable.labels.tolist()) == (list("vxyz"), [0, 2, 3, 4])
    np.testing.assert_array_equal(readable.read_item(1), clips.read_item(2))


def test_encoded_frames_decode_to_the_uniformly_sampled_frames(clips):
    decoded = [tf.io.decode_png(data).numpy() for data in clips.encoded_frames(0)]
    np.testing.assert_array_equal(decoded, clips.read_item(0))
    with pytest.raises(TypeError, match=r"Received: encoded_image\(2\) of a ClipArrays"):
        clips.encoded_image(2)


FRAMES = np.arange(600, dtype=np.uint32).astype(np.uint8).reshape(10, 4, 5, 3)


def make(frames=FRAMES, offsets=(0, 3, 10), **changes):
    return ClipArrays(frames, offsets, **{"labels": [0, 1], "num_frames": 3, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": FRAMES / 1.0}, "frames must be uint8 .*Received: float64"),
        ({"offsets": (0, 6, 3, 10)}, "offsets must begin at 0, never fall, and end at 10"),
        ({"offsets": (0.0, 3.0, 10.0)}, r"offsets must be integers \[num_clips \+ 1\]"),
        ({"labels": np.zeros((2, 1, 1))}, r"labels must be integers .* float64 \(2, 1, 1\)"),
        ({"ids": ["a"]}, "one entry per clip. Received: 2 clips, 2 labels, 1 ids"),
        ({"num_frames": 0}, "num_frames must be at least 1. Received: 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_clips_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


ARRAYS = {"frames": FRAMES, "offsets": [0, 3, 10], "label": [1, 0]}


def test_file_gives_what_was_written(tmp_path):
    path = tmp_path / "clips.npz"
    np.savez(path, **ARRAYS, class_names=np.array(["x", "y"]), id=np.array(["a", "b"]))
    clips = ClipArrays.from_npz(path, 3, mirrors_alike=False)
    assert (clips.label_names, clips.ids.tolist()) == (("x", "y"), ["a", "b"])
    assert (clips.labels.tolist(), clips.mirrors_alike) == ([1, 0], False)
    np.testing.assert_array_equal(clips.read_item(1), make().read_item(1))
    np.savez(path, **ARRAYS)
    assert ClipArrays.from_npz(path, 3).label_names == ()


def test_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "clips.npz"
    np.savez(path, frames=FRAMES)
    with pytest.raises(ValueError, match=r"without \['offsets', 'label'\]"):
        ClipArrays.from_npz(path, 3)
    np.savez(path, **{**ARRAYS, "label": np.array([{"a": 1}, None], object)})
    with pytest.raises(ValueError, match="of plain arrays,.* Received: Object arrays"):
        ClipArrays.from_npz(path, 3)
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"clips\.npz' must be an \.npz"):
            ClipArrays.from_npz(path, 3)
    np.save(tmp_path / "clips.npy", FRAMES)
    with pytest.raises(ValueError, match=r"clips\.npy' must be an \.npz"):
        ClipArrays.from_npz(tmp_path / "clips.npy", 3)


def damaged(name):
    """A file of vectors of which something is not as NumPy writes it."""
    content = io.BytesIO()
    np.save(content, FRAMES[0, 0])
    array = content.getvalue().replace(b"{'descr'", b"{('descr'") if "header" in name else b""
    if name == "header.npy":
        return array
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("vectors.npy", array)
    data = bytearray(content.getvalue())
    for start, flags in ((data.index(b"PK\3\4"), 6), (data.index(b"PK\1\2"), 8)):
        data[start + flags] |= name == "encrypted.npz"
        data[start + flags + 2] = 99 if name == "compression.npz" else 0
    return bytes(data)


@pytest.mark.parametrize(
    "name", ["header.npy", "header.npz", "compression.npz", "encrypted.npz", "zip.npy"]
)
def test_whatever_is_wrong_with_a_file_of_arrays_it_is_named_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(damaged(name))
    with pytest.raises(ValueError, match=f"{name}' must be an? .* of plain .*Received: ") as caught:
        open_vectors(path)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_file_of_arrays_that_the_system_refuses_keeps_the_error_of_the_system(
    tmp_path, monkeypatch, name
):
    (tmp_path / name).touch()

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError):
        open_vectors(tmp_path / name)
