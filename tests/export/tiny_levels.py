"""Tiny networks with residual levels and of clips, and the slow loop that answers for clips."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import tfpqn
from tests import reference
from tests.export.tiny import (
    EMBEDDING_DIM,
    IMAGE_SHAPE,
    NUM_CODEWORDS,
    Reference,
    encode_image,
    make_network_with,
)

NUM_LEVELS = 2
NUM_SEGMENTS = 2


def make_level_network(seed: int = 7) -> Any:
    """A network of images whose codes have two positions in each of two levels."""
    keras.utils.set_random_seed(seed)
    quantizer = tfpqn.layers.ResidualProductQuantization(NUM_LEVELS, 2, NUM_CODEWORDS)
    return make_network_with(quantizer, seed=seed)


def make_clip_network(levels: int = 1, backbone: Any = None, seed: int = 7) -> Any:
    """A network of clips whose codes have four positions in all."""
    keras.utils.set_random_seed(seed)
    quantizer = tfpqn.layers.TemporalProductQuantization(
        NUM_SEGMENTS, 2 // levels, NUM_CODEWORDS, levels
    )
    return make_network_with(quantizer, EMBEDDING_DIM // NUM_SEGMENTS, backbone, seed)


def make_clips(*lengths: int, seed: int = 5) -> list[np.ndarray]:
    """Noise `[num_frames, height, width, channels]`, uint8, one clip a length."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (length, *IMAGE_SHAPE), dtype=np.uint8) for length in lengths]


def encode_clips(clips: Sequence[np.ndarray]) -> list[list[bytes]]:
    return [[encode_image(frame) for frame in clip] for clip in clips]


def embed_clips(slow: Reference, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Embeddings of clips, one array `[num_frames, height, width, channels]` each."""
    flat = [(clip / 127.5 - 1.0).reshape(len(clip), -1) for clip in clips]
    return slow.embed_segments(
        [reference.average_segments(frames, NUM_SEGMENTS) for frames in flat]
    )
