"""Tiny networks and collections whose every answer a loop over their weights can give."""

import io
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image

import tfpqn
from tests import reference
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, network_layout

IMAGE_SHAPE = (4, 4, 3)
NUM_SUBSPACES = 4
NUM_CODEWORDS = 16
EMBEDDING_DIM = 16
NUM_ITEMS = 60
TOP_K = 7
# Not a divisor of NUM_ITEMS: the last block is a short one.
ROWS_PER_BLOCK = 16
FLOOR_SCORE = float(np.finfo(np.float32).min)


def make_network(num_codewords: int = NUM_CODEWORDS, seed: int = 7, backbone: Any = None) -> Any:
    """A network whose embedding is a linear layer over the pixels and its centring."""
    keras.utils.set_random_seed(seed)
    if backbone is None:
        backbone = keras.Sequential(
            [
                keras.Input(IMAGE_SHAPE),
                keras.layers.Rescaling(1 / 127.5, offset=-1.0),
                keras.layers.Flatten(),
            ]
        )
    quantizer = tfpqn.layers.ProductQuantization(NUM_SUBSPACES, num_codewords)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, EMBEDDING_DIM)
    rng = np.random.default_rng(seed)
    centering = network.embedding.layers[-1]
    centering.moving_mean.assign(rng.normal(size=EMBEDDING_DIM))
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
    options = {"top_k": TOP_K, "rows_per_block": ROWS_PER_BLOCK, **options}
    return Searcher(network, make_index(network) if index is None else index, **options)


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


class Found(NamedTuple):
    """What the reference finds, in the form of a searcher's answer."""

    ids: np.ndarray
    scores: np.ndarray


class Reference:
    """The answers of `make_network`'s network, computed in float64 from its weights."""

    def __init__(self, network: Any) -> None:
        dense, centering = network.embedding.layers
        self.kernel = np.asarray(dense.kernel, np.float64)
        self.mean = np.asarray(centering.moving_mean, np.float64)
        self.variance = np.asarray(centering.moving_variance, np.float64) + centering.epsilon
        self.codebooks = np.asarray(network.quantizer.codebooks, np.float64)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        features = (pixels / 127.5 - 1.0).reshape(len(pixels), -1)
        embeddings = (features @ self.kernel - self.mean) / np.sqrt(self.variance)
        return reference.intra_normalize(embeddings, len(self.codebooks))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return reference.encode(self.embed(pixels), self.codebooks)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return reference.decode(codes, self.codebooks)

    def score(self, embeddings: np.ndarray, index: CodeIndex) -> np.ndarray:
        """Scores `[queries, num_items]`."""
        tables = reference.lookup_tables(embeddings, self.codebooks)
        return reference.adc_scores(tables, index.codes)

    def search(self, embeddings: np.ndarray, index: CodeIndex, top_k: int = TOP_K) -> Found:
        return rank(self.score(embeddings, index), index, top_k)


def rank(scores: np.ndarray, index: CodeIndex, top_k: int, admitted: Any = None) -> Found:
    """The best items of each row of scores, among those that `admitted[row]` says."""
    missing = "" if index.id_type == "string" else -1
    found = Found(
        np.full((len(scores), top_k), missing, index.ids.dtype),
        np.full((len(scores), top_k), FLOOR_SCORE),
    )
    for row, values in enumerate(scores):
        places = [p for p in range(len(values)) if admitted is None or admitted[row][p]]
        places = sorted(places, key=lambda place: (-values[place], place))[:top_k]
        found.ids[row, : len(places)] = index.ids[places]
        found.scores[row, : len(places)] = values[places]
    return found


def assert_found(received: Any, expected: Found) -> None:
    """Ids exactly, scores within 1e-5."""
    np.testing.assert_array_equal(received.ids, expected.ids)
    assert received.scores.dtype == np.float32
    np.testing.assert_allclose(received.scores, expected.scores, rtol=0, atol=1e-5)
