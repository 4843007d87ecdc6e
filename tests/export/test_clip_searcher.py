"""Laws of searching with clips: frames in time, of any number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.tiny import (
    IMAGE_SHAPE,
    Reference,
    assert_found,
    make_images,
    make_index,
    make_searcher,
)
from tests.export.tiny_levels import encode_clips, make_clip_network, make_clips
from tfpqn.items import IMAGES

WHOLE_CLIP_LENGTH = 3
FRAME, OTHER = make_images(2)


@pytest.fixture(scope="module")
def searcher():
    return make_searcher(make_clip_network())


@pytest.mark.parametrize("positions", [(0,), (3,), (1, 2, 2), (0, 1, 2, 3)], ids=str)
def test_empty_strings_are_no_frames_wherever_they_stand(searcher, positions):
    (clip,) = encode_clips(make_clips(3))
    padded = list(clip)
    for position in reversed(positions):
        padded.insert(position, b"")
    assert_found(searcher([padded]), searcher([clip]))


@pytest.fixture(scope="module")
def whole_clips():
    """A network whose backbone sees neighbouring frames together, and fixes their number."""
    backbone = keras.Sequential(
        [
            keras.Input((WHOLE_CLIP_LENGTH, *IMAGE_SHAPE)),
            keras.layers.Rescaling(1 / 127.5, offset=-1.0),
            keras.layers.Conv3D(6, (2, 3, 3), padding="same"),
        ]
    )
    return make_clip_network(backbone=backbone)


def test_a_backbone_of_whole_clips_takes_clips_of_its_length_alone(whole_clips):
    clips, index = make_clips(WHOLE_CLIP_LENGTH, WHOLE_CLIP_LENGTH), make_index(whole_clips)
    searcher = make_searcher(whole_clips, index)
    expected = Reference(whole_clips).search(np.array(whole_clips.embed(np.stack(clips))), index)
    assert_found(searcher(encode_clips(clips)), expected)
    frames = make_images(WHOLE_CLIP_LENGTH)
    # An empty string is no frame, and not a black one.
    for clip in (frames[:-1], [*frames, OTHER], [b"", *frames[1:]], [*frames[:-1], b""]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="frames"):
            searcher([clip])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (FRAME, "clips must be a sequence of clips. Received: one bytes; put it into a list"),
        ([FRAME, OTHER], "A clip must be a sequence .* Received: one bytes; put it into a list"),
        (["bird.mp4"], "A clip must be a sequence .* Received: one str"),
        ([["a.png"]], "A frame must be the bytes of an image file. Received: str"),
        ([[[FRAME]]], "A frame must be the bytes of an image file. Received: list"),
        ([None], "A clip must be a sequence .* Received: .*None"),
        (None, "clips must be a sequence .* Received: .*None"),
    ],
    ids=["bytes", "flat", "name of a file", "name of a frame", "too deep", "no clip", "nothing"],
)
def test_what_is_no_clip_is_a_type_error_that_says_what_a_clip_is(searcher, items, message):
    with pytest.raises(TypeError, match=message):
        searcher(items)


def test_images_must_be_bytes_of_their_own():
    assert IMAGES.pack([FRAME, OTHER]).tolist() == [FRAME, OTHER]
    with pytest.raises(TypeError, match="An image must be the bytes .* Received: list"):
        IMAGES.pack([[FRAME]])
    with pytest.raises(TypeError, match="images must be a sequence .* one bytes; put it into"):
        IMAGES.pack(FRAME)
