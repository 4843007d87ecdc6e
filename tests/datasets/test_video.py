"""Laws of reading videos: the wanted frames, from any container, and a sentence when it fails."""

import struct

import numpy as np
import pytest

from tests.datasets.videos import SIZE, encode_frames, encode_sound, encode_video, numbers_of
from tfpqn.datasets import read_frames
from tfpqn.datasets.clips.frame_sampling import choose_frames

pytest.importorskip("av", reason="needs PyAV: pip install 'tfpqn[video]'")


@pytest.mark.parametrize("name", ["mp4", "avi", "mkv", "mov", "webm", "gif"])
def test_every_container_gives_the_sampled_frames(name):
    data = encode_video(12, name)
    frames = read_frames(data, 5)
    assert all(frame.dtype == np.uint8 and frame.shape == (*SIZE, 3) for frame in frames)
    assert numbers_of(frames) == choose_frames(12, 5).tolist()
    assert numbers_of(read_frames(data, 5, 3)) == choose_frames(12, 5, 3).tolist()
    # Short videos repeat frames.
    assert numbers_of(read_frames(data, 20)) == choose_frames(12, 20).tolist()


# The four numbers that a display matrix begins with, and what is to be done with the stored frame.
MATRICES = {
    (1, 0, 0, 1): lambda stored: stored,
    (0, 1, -1, 0): lambda stored: np.rot90(stored, -1),
    (-1, 0, 0, -1): lambda stored: stored[::-1, ::-1],
    (0, -1, 1, 0): lambda stored: np.rot90(stored),
    (-1, 0, 0, 1): lambda stored: stored[:, ::-1],
    (1, 0, 0, -1): lambda stored: stored[::-1],
    (0, 1, 1, 0): lambda stored: stored.transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_frames_are_turned_upright(matrix):
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:16, :24], pixels[:16, 24:] = 240, 120
    data = bytearray(encode_frames([pixels, pixels], "mov"))
    place = data.index(b"tkhd") + 44
    rows = [value << 16 for value in matrix]
    data[place : place + 20] = struct.pack(">5i", *rows[:2], 0, *rows[2:])
    (frame,) = read_frames(bytes(data), 1)
    np.testing.assert_allclose(frame, MATRICES[matrix](pixels).astype(int), atol=16)


def test_frames_beyond_the_limit_of_pixels_are_refused(monkeypatch):
    monkeypatch.setattr("tfpqn.datasets.clips.video.MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(ValueError, match="frames of 1536 pixels, which is more than 1535"):
        read_frames(encode_video(2), 1)


@pytest.mark.parametrize("name", ["mkv", "gif"])
def test_of_a_truncated_video_the_frames_that_came_are_sampled(name):
    whole = encode_video(12, name)
    frames = numbers_of(read_frames(whole[: len(whole) * 2 // 3], 4))
    assert len(frames) == 4
    assert frames == sorted(frames)
    assert frames[-1] < 11


def test_broken_middle_of_a_video_is_passed_over():
    data = bytearray(encode_video(12, "avi"))
    half = len(data) // 2
    data[half : half + 60] = bytes(60)
    assert len(read_frames(bytes(data), 4)) == 4


@pytest.mark.parametrize("num_decoded", [1, 3, 11])
def test_packets_that_do_not_decode_are_not_missed(monkeypatch, num_decoded):
    monkeypatch.setattr("tfpqn.datasets.clips.video._count_packets", lambda source: 30)
    frames = read_frames(encode_video(num_decoded), 5)
    assert numbers_of(frames) == choose_frames(num_decoded, 5).tolist()


def unreadable():
    playlist = b"#EXTM3U\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n"
    return {
        "empty": (b"", "Inv"),
        "text": (b"this is no video\n" * 50, "Invalid data"),
        "sound": (encode_sound(), "no video stream"),
        "no frame": (encode_video(1)[:400], ""),
        "truncated": (encode_video(12)[: len(encode_video(12)) // 2], ""),
        "playlist": (playlist, ""),
        "codec": (encode_video(2, "avi").replace(b"FMP4", b"XYZ1"), "an unknown codec"),
    }


@pytest.mark.parametrize(
    "case", ["empty", "text", "sound", "no frame", "truncated", "playlist", "codec"]
)
def test_what_is_no_video_is_refused_in_a_sentence(case, tmp_path, capfd):
    data, reason = unreadable()[case]
    (tmp_path / "clip.mp4").write_bytes(data)
    for source, name in ((data, "The video"), (tmp_path / "clip.mp4", r"clip\.mp4")):
        with pytest.raises(ValueError, match=f"^{name} must be a video .*{reason}") as caught:
            read_frames(source, 3)
        assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")
