"""Inputs that every way into an exported model must refuse, and the words it must find."""

from typing import NamedTuple

import numpy as np

from tests.export.native_calls import Call
from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_CODEWORDS,
    NUM_SUBSPACES,
    encode_image,
    make_embeddings,
    make_images,
    make_pixels,
)


class BadInput(NamedTuple):
    """A call that must be refused as INVALID_ARGUMENT.

    Attributes:
        call: the call.
        words: a regular expression; the message names the input, what was expected and what came.
        has_wrong_shape: whether a TensorFlow 1 session refuses it before the graph does.
    """

    call: Call
    words: str
    has_wrong_shape: bool = False


def with_images(*images: bytes, signature: str = "search") -> Call:
    return Call(signature, {"images": list(images)})


def with_embeddings(value: float) -> Call:
    """Two good rows about one that holds the value."""
    embeddings = make_embeddings(3)
    embeddings[1, 2] = value
    return Call("search_by_embedding", {"embeddings": embeddings})


def with_codes(value: int) -> Call:
    codes = np.zeros((2, NUM_SUBSPACES), np.int32)
    codes[1, 2] = value
    return Call("decode", {"codes": codes})


(PNG,) = make_images(1)
JPEG = encode_image(make_pixels(1)[0], "JPEG")
NO_IMAGE = r"images: expected the bytes of a JPEG, PNG.* Received other bytes; rows.*\] \[0\]"
NOT_FINITE = r"embeddings: expected finite values. Received NaN or infinity; rows.*\] \[1\]"
OUT_OF_RANGE = rf"codes: expected values in 0 .. {NUM_CODEWORDS - 1}. Received from, to:\] "

BAD_INPUTS = {
    "no image": BadInput(with_images(b"no image"), NO_IMAGE),
    "no bytes": BadInput(with_images(b""), NO_IMAGE),
    "no image to embed": BadInput(with_images(b"GIF9", signature="embed"), NO_IMAGE),
    "no image to encode": BadInput(with_images(b"\x89PN", signature="encode"), NO_IMAGE),
    "no image by default": BadInput(with_images(b"RIF", signature="serving_default"), NO_IMAGE),
    "one that is no image": BadInput(
        with_images(PNG, b"no image", PNG, b""), NO_IMAGE.replace("0", "1 3")
    ),
    "cut PNG": BadInput(with_images(PNG[: len(PNG) // 2]), "images"),
    "cut JPEG": BadInput(with_images(PNG, JPEG[: len(JPEG) // 2]), "images"),
    "first bytes only": BadInput(with_images(b"\xff\xd8\xff"), "images"),
    "short embeddings": BadInput(
        Call("search_by_embedding", {"embeddings": make_embeddings(2)[:, :-1]}),
        rf"embeddings: expected width {EMBEDDING_DIM}. Received width:\] \[{EMBEDDING_DIM - 1}\]",
        has_wrong_shape=True,
    ),
    "NaN": BadInput(with_embeddings(np.nan), NOT_FINITE),
    "infinity": BadInput(with_embeddings(np.inf), NOT_FINITE),
    "negative infinity": BadInput(with_embeddings(-np.inf), NOT_FINITE),
    "code too large": BadInput(
        with_codes(NUM_CODEWORDS), OUT_OF_RANGE + rf"\[0\] \[{NUM_CODEWORDS}\]"
    ),
    "negative code": BadInput(with_codes(-1), OUT_OF_RANGE + r"\[-1\] \[0\]"),
    "long codes": BadInput(
        Call("decode", {"codes": np.zeros((2, NUM_SUBSPACES + 1), np.int32)}),
        rf"codes: expected width {NUM_SUBSPACES}. Received width:\] \[{NUM_SUBSPACES + 1}\]",
        has_wrong_shape=True,
    ),
}
