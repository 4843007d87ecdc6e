"""Frames of a video file, decoded once and no more of them kept than are wanted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfpqn._extras import import_extra
from tfpqn.datasets.clips.frame_sampling import check_num_frames, choose_frames
from tfpqn.datasets.plain_images import MAX_PIXELS

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
# A playlist that calls itself a video may name other files and addresses: no such format is read.
FILES_ONLY = {
    "format_whitelist": "asf,avi,flv,gif,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo,ogg",
    "protocol_whitelist": "none",
}


def read_frames(
    source: str | Path | bytes, num_frames: int, seed: int | None = None
) -> list[np.ndarray]:
    """Sample frames of a video: mp4, avi, mkv, mov, webm, gif and what else libav can read.

    Args:
        source: Path of the file, or its bytes.
        num_frames: Frames wanted; a shorter video repeats frames.
        seed: Draws the frames at random, one of each stretch; without it the middle frames of the
            stretches are taken.

    Returns:
        uint8 arrays `[height, width, 3]`, in their order, upright as a player shows them.

    Raises:
        ImportError: PyAV is not installed.
        OSError: The file cannot be opened.
        ValueError: There is no frame that can be decoded.
    """
    check_num_frames(num_frames)
    # A container may promise more than can be decoded: each round asks for fewer.
    num_available = _count_packets(source)
    while num_available:
        chosen = choose_frames(num_available, num_frames, seed)
        kept, num_decoded = _decode(source, set(chosen.tolist()))
        if len(kept) == len(set(chosen.tolist())):
            return [kept[number] for number in chosen.tolist()]
        num_available = num_decoded
    raise _refusal(source, "none can be decoded")


def _count_packets(source: str | Path | bytes) -> int:
    """How many frames the container promises, by its packets: nothing is decoded."""
    with _open(source) as container:
        return sum(1 for packet in _packets(container) if packet.size)


def _decode(source: str | Path | bytes, chosen: set[int]) -> tuple[dict[int, np.ndarray], int]:
    """The chosen frames by number, and how many frames were decoded on the way to the last."""
    kept: dict[int, np.ndarray] = {}
    num_decoded = 0
    with _open(source) as container:
        for frame in _frames(container):
            if num_decoded in chosen:
                kept[num_decoded] = _upright(frame)
            num_decoded += 1
            if len(kept) == len(chosen):
                break
    return kept, num_decoded


def _upright(frame: Any) -> np.ndarray:
    """Pixels of a frame, turned and mirrored as the display matrix of its video says."""
    pixels = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # A row for each side: what x and what y of the stored frame add to x and y as displayed.
    x_to_x, x_to_y, _, y_to_x, y_to_y = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(x_to_x) + abs(y_to_y) < abs(x_to_y) + abs(y_to_x):
        pixels = pixels.transpose(1, 0, 2)
        x_to_x, y_to_y = y_to_x, x_to_y
    pixels = pixels[::-1] if y_to_y < 0 else pixels
    return pixels[:, ::-1] if x_to_x < 0 else pixels


def _frames(container: Any) -> Iterator[Any]:
    """The frames that can be decoded; what is broken between them is passed over."""
    av = import_av()
    stream = container.streams.video[0]
    # Frames may be larger than the container says.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    # Many videos are decoded at a time: threads within each would only contend.
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    for packet in _packets(container):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        yield from frames


def _packets(container: Any) -> Iterator[Any]:
    """The packets up to the end of the file, or to where it is cut off."""
    try:
        yield from container.demux(container.streams.video[0])
    except (import_av().FFmpegError, OSError):
        return


@contextmanager
def _open(source: str | Path | bytes) -> Iterator[Any]:
    av = import_av()
    av.logging.set_level(None)  # or libav writes to stderr past Python
    # Never a name for libav to open: it would fetch what looks like an address.
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        try:
            container = av.open(file, options=FILES_ONLY)
        except (av.FFmpegError, OSError) as error:
            raise _refusal(source, error.strerror or "no video") from None
        with container:
            if not container.streams.video:
                raise _refusal(source, "no video stream")
            codec = container.streams.video[0].codec_context
            if codec is None:
                raise _refusal(source, "an unknown codec")
            num_pixels = codec.width * codec.height
            if num_pixels > MAX_PIXELS:
                reason = f"frames of {num_pixels} pixels, which is more than {MAX_PIXELS}"
                raise _refusal(source, reason)
            yield container


def _refusal(source: str | Path | bytes, reason: str) -> ValueError:
    name = "The video" if isinstance(source, bytes) else Path(source).name
    return ValueError(
        f"{name} must be a video with a frame that can be decoded. Received: {reason}"
    )


def import_av() -> ModuleType:
    """PyAV, which only the extra `video` brings.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    return import_extra("av", "video", "Reading videos needs PyAV")
