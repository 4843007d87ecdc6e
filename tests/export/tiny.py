"""Tiny networks of images and collections whose every answer a loop over their weights can give."""

import io
from typing import Any

import keras
import numpy as np
from PIL import Image

import tfpqn
from tests import reference
from tfpqn.export import Searcher, SearchResult
from tfpqn.index import CodeIndex, network_layout

IMAGE_SHAPE = (4, 4, 3)
NUM_SUBSPACES = 4
NUM_CODEWORDS = 16
EMBEDDING_DIM = 16
NUM_ITEMS = 60
TOP_K = 7
FLOOR_SCORE = float(np.finfo(np.float32).min)


def make_network(seed: int = 7, backbone: Any = None) -> Any:
    """A network whose embedding is a linear layer over the pixels and its centring."""
    keras.utils.set_random_seed(seed)
    quantizer = tfpqn.layers.ProductQuantization(NUM_SUBSPACES, NUM_CODEWORDS)
    return make_network_with(quantizer, backbone=backbone, seed=seed)


def make_network_with(
    quantizer: Any, embedding_dim: int = EMBEDDING_DIM, backbone: Any = None, seed: int = 7
) -> Any:
    """As `make_network`, with any quantizer."""
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


def make_codes(network: Any, num_items: int = NUM_ITEMS, seed: int = 1) -> np.ndarray:
    """Random codes `[num_items, code_length]`, each standing twice: half a collection of ties."""
    layout = network_layout(network)
    rng = np.random.default_rng(seed)
    shape = (num_items - num_items // 2, layout.code_length)
    codes = rng.integers(0, layout.num_codewords, shape)
    return rng.permutation(np.concatenate([codes, codes])[:num_items])


def make_ids(id_type: str, num_items: int = NUM_ITEMS) -> Any:
    """Ids that float64, int32 or ASCII could not hold."""
    if id_type == "int64":
        return np.arange(num_items) * 3 + 2**53 + 1
    return np.array([f"vögel/{number}\N{BIRD}" for number in range(num_items)], object)


def make_index(network: Any, id_type: str = "int64", num_items: int = NUM_ITEMS) -> CodeIndex:
    codes = make_codes(network, num_items)
    return CodeIndex(network_layout(network), codes, make_ids(id_type, num_items))


def make_searcher(network: Any, index: CodeIndex | None = None, **options: Any) -> Searcher:
    index = make_index(network) if index is None else index
    return Searcher(network, index, **{"top_k": TOP_K, **options})


def make_pixels(num_images: int, seed: int = 2) -> np.ndarray:
    """Noise `[num_images, height, width, channels]`, uint8."""
    shape = (num_images, *IMAGE_SHAPE)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode_image(pixels: np.ndarray, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def make_images(num_images: int, seed: int = 2) -> list[bytes]:
    return [encode_image(pixels) for pixels in make_pixels(num_images, seed)]


def make_embeddings(num_embeddings: int, seed: int = 3) -> np.ndarray:
    """Embeddings that are not normalised."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 5, (num_embeddings, EMBEDDING_DIM)).astype(np.float32)


class Reference:
    """The answers of a network of images or of clips, computed in float64 from its weights.

    Args:
        network: The network.
        num_levels: Levels of a code that count; None for all.
    """

    def __init__(self, network: Any, num_levels: int | None = None) -> None:
        dense, *_, centering = network.embedding.layers
        self.kernel = np.asarray(dense.kernel, np.float64)
        self.mean = np.asarray(centering.moving_mean, np.float64)
        self.variance = np.asarray(centering.moving_variance, np.float64) + centering.epsilon
        codebooks = np.asarray(network.quantizer.codebooks, np.float64)
        codebooks = codebooks[np.newaxis] if codebooks.ndim == 3 else codebooks
        self.levels = reference.unit_first(codebooks)[:num_levels]
        self.per_level = len(self.levels[0])
        self.alpha = network.quantizer.alpha

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embeddings of images `[batch, height, width, channels]`."""
        return self.embed_segments([[image.reshape(-1)] for image in pixels / 127.5 - 1.0])

    def embed_segments(self, segments: Any) -> np.ndarray:
        """Embeddings of items, each the features of its segments."""
        raw = [np.concatenate([features @ self.kernel for features in row]) for row in segments]
        centred = (np.array(raw) - self.mean) / np.sqrt(self.variance)
        return reference.intra_normalize(centred, self.per_level)

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        soft = reference.reconstruct_soft(embeddings, self.levels[0], self.alpha)
        return reference.residual_encode(embeddings, soft, self.levels)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        codes = codes[:, : len(self.levels) * self.per_level]
        return reference.residual_decode(codes, self.levels)

    def score(self, embeddings: np.ndarray, index: CodeIndex) -> np.ndarray:
        """Inner products of unit subvectors with codewords, a position at a time."""
        tables = reference.residual_lookup_tables(embeddings, self.levels)
        return reference.adc_scores(tables, index.codes[:, : tables.shape[1]])

    def search(self, embeddings: np.ndarray, index: CodeIndex, top_k: int = TOP_K) -> SearchResult:
        return rank(self.score(embeddings, index), index, top_k)


def rank(
    scores: np.ndarray, index: CodeIndex, top_k: int = TOP_K, admitted: Any = None
) -> SearchResult:
    """The best items of each row of scores, among those that `admitted[row]` says."""
    missing = "" if index.id_type == "string" else -1
    found = SearchResult(
        np.full((len(scores), top_k), missing, index.ids.dtype),
        np.full((len(scores), top_k), FLOOR_SCORE),
    )
    for row, values in enumerate(scores):
        positions = [p for p in range(len(values)) if admitted is None or admitted[row][p]]
        positions = sorted(positions, key=lambda position: (-values[position], position))[:top_k]
        found.ids[row, : len(positions)] = index.ids[positions]
        found.scores[row, : len(positions)] = values[positions]
    return found


def assert_found(received: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Ids exactly, scores within the tolerance; 0 asks for the last bit."""
    assert received.ids.dtype == expected.ids.dtype
    np.testing.assert_array_equal(received.ids, expected.ids)
    assert received.scores.dtype == np.float32
    np.testing.assert_allclose(received.scores, expected.scores, rtol=0, atol=tolerance)
