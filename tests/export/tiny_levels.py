"""Tiny networks with residual levels and of clips, and the slow loops that answer for them."""

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
    TOP_K,
    Found,
    encode_image,
    rank,
)
from tfpqn.index import CodeIndex

NUM_LEVELS = 2
NUM_SEGMENTS = 2


def make_network_with(
    quantizer: Any, embedding_dim: int = EMBEDDING_DIM, backbone: Any = None, seed: int = 7
) -> Any:
    """A network over the pixels, as `tiny.make_network`, with any quantizer."""
    keras.utils.set_random_seed(seed)
    if backbone is None:
        backbone = keras.Sequential(
            [
                keras.Input(IMAGE_SHAPE),
                keras.layers.Rescaling(1 / 127.5, offset=-1.0),
                keras.layers.Flatten(),
            ]
        )
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, embedding_dim)
    rng = np.random.default_rng(seed)
    centering = network.embedding.layers[-1]
    centering.moving_mean.assign(0.1 * rng.normal(size=EMBEDDING_DIM))
    centering.moving_variance.assign(rng.uniform(0.5, 2.0, EMBEDDING_DIM))
    return network


def make_level_network(seed: int = 7) -> Any:
    """A network of images whose codes have two positions in each of two levels."""
    quantizer = tfpqn.layers.ResidualProductQuantization(NUM_LEVELS, 2, NUM_CODEWORDS)
    return make_network_with(quantizer, seed=seed)


def make_clip_network(
    levels: int = 1, share_codebooks: bool = False, backbone: Any = None, seed: int = 7
) -> Any:
    """A network of clips whose codes have four positions in all."""
    quantizer = tfpqn.layers.TemporalProductQuantization(
        NUM_SEGMENTS, 2 // levels, NUM_CODEWORDS, levels, share_codebooks=share_codebooks
    )
    return make_network_with(quantizer, EMBEDDING_DIM // NUM_SEGMENTS, backbone, seed)


def make_clips(*lengths: int, seed: int = 5) -> list[np.ndarray]:
    """Noise `[num_frames, height, width, channels]`, uint8, one clip a length."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (length, *IMAGE_SHAPE), dtype=np.uint8) for length in lengths]


def encode_clips(clips: Sequence[np.ndarray]) -> list[list[bytes]]:
    return [[encode_image(frame) for frame in clip] for clip in clips]


def average_halves(frames: np.ndarray) -> list[np.ndarray]:
    """Mean of the frames in each half of a clip; a frame in the middle belongs half to both."""
    halves = [frame for frame in frames for _ in range(NUM_SEGMENTS)]
    length = len(frames)
    return [sum(halves[s * length : (s + 1) * length]) / length for s in range(NUM_SEGMENTS)]


class LevelReference:
    """The answers of the networks above, computed in float64 from their weights.

    Args:
        network: The network, of images or of clips.
        num_levels: Levels of a code that count; None for all.
    """

    def __init__(self, network: Any, num_levels: int | None = None) -> None:
        dense, *_, centering = network.embedding.layers
        self.kernel = np.asarray(dense.kernel, np.float64)
        self.mean = np.asarray(centering.moving_mean, np.float64)
        self.variance = np.asarray(centering.moving_variance, np.float64) + centering.epsilon
        codebooks = np.asarray(network.quantizer.codebooks, np.float64)
        if getattr(network.quantizer, "share_codebooks", False):
            codebooks = np.concatenate([codebooks] * NUM_SEGMENTS, axis=1)
        # Only the first level's codewords are used as directions.
        self.levels = [reference.unit(codebooks[0]), *codebooks[1:]][:num_levels]
        self.per_level = len(self.levels[0])
        self.alpha = network.quantizer.alpha

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Of images `[batch, height, width, channels]`."""
        return self._embed([[image.reshape(-1)] for image in pixels / 127.5 - 1.0])

    def embed_clips(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Of one array `[num_frames, height, width, channels]` a clip."""
        flat = [(clip / 127.5 - 1.0).reshape(len(clip), -1) for clip in clips]
        return self._embed([average_halves(frames) for frames in flat])

    def _embed(self, segments: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        raw = [np.concatenate([features @ self.kernel for features in row]) for row in segments]
        centred = (np.array(raw) - self.mean) / np.sqrt(self.variance)
        return reference.intra_normalize(centred, self.per_level)

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        soft = reference.reconstruct_soft(embeddings, self.levels[0], self.alpha)
        return reference.residual_encode(embeddings, soft, self.levels)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        by_level = np.reshape(codes, (len(codes), len(self.levels), self.per_level))
        return np.array(
            [
                sum(
                    np.concatenate([codebooks[m][k] for m, k in enumerate(row)])
                    for codebooks, row in zip(self.levels, rows, strict=True)
                )
                for rows in by_level
            ]
        )

    def score(self, embeddings: np.ndarray, index: CodeIndex) -> np.ndarray:
        """Inner products of unit subvectors with codewords, a position at a time."""
        queries = reference.unit(reference.split(embeddings, self.per_level))
        codewords = [codebook for codebooks in self.levels for codebook in codebooks]
        tables = np.zeros((len(queries), len(codewords), NUM_CODEWORDS))
        for q, position, k in np.ndindex(tables.shape):
            subvector = queries[q, position % self.per_level]
            tables[q, position, k] = reference.inner_product(subvector, codewords[position][k])
        return reference.adc_scores(tables, index.codes[:, : len(codewords)])

    def search(self, embeddings: np.ndarray, index: CodeIndex) -> Found:
        return rank(self.score(embeddings, index), index, TOP_K)
