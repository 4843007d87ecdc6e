"""Small videos for the tests, made by PyAV."""

import io

import numpy as np

SIZE = (32, 48)
# Neighbouring frames differ by more grey levels than lossy coding changes.
STEP = 12


def encode_video(num_frames, name="mp4", size=SIZE):
    """A video whose frame number i is grey of level `STEP * i`."""
    frames = [np.full((*size, 3), STEP * number, np.uint8) for number in range(num_frames)]
    return encode_frames(frames, name)


def encode_frames(frames, name):
    import av

    container_format = {"mkv": "matroska"}.get(name, name)
    codec, pixel_format = {
        "gif": ("gif", "rgb8"),
        "webm": ("libvpx", "yuv420p"),
    }.get(name, ("mpeg4", "yuv420p"))
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2] if frames else SIZE
        stream.pix_fmt = pixel_format
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame.reformat(format=pixel_format)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def encode_sound():
    """A container that holds sound alone."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return file.getvalue()


def number_of(frame):
    """Which frame of `encode_video` this is."""
    return round(float(frame.mean()) / STEP)


def numbers_of(frames):
    return [number_of(frame) for frame in frames]
