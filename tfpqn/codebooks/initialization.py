"""Codebooks from the network's own first embeddings."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable

import numpy as np
from keras import ops
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from tfpqn.codebooks import kmeans, settling
from tfpqn.protocols import NetworkLike

# From this many codewords on, full k-means costs minutes and mini-batches seconds.
MINI_BATCH_FROM = 256


def initialize_codebooks(
    network: NetworkLike, images: Iterable[np.ndarray], *, seed: int = 0, training: bool = True
) -> None:
    """Set a network's codebooks to k-means centres of its embeddings.

    The embeddings are those that training sees (batch statistics, not moving averages), so the
    first training step finds the codewords where its embeddings are.

    Args:
        network: A `ProductQuantizationNetwork`.
        images: Batches of images `[batch, height, width, channels]`; some 10 images per codeword
            are plenty. With fewer images than codewords the rest keep their random directions.
        seed: Seed of the clustering.
        training: Whether training follows. If not, the embeddings are those of inference.

    Raises:
        ValueError: There is no image, or an embedding is not finite.

    Reference:
        Jegou, Douze, Schmid: "Product Quantization for Nearest Neighbor Search", PAMI 2011.
    """
    kmeans.fit_codebooks(
        network.quantizer,
        embed_batches(network, images, training),
        functools.partial(_cluster, seed=seed),
    )


def settle_codebooks(network: NetworkLike, images: Iterable[np.ndarray], *, seed: int = 0) -> None:
    """Fit the codewords of a trained network to the soft reconstructions that it was trained on.

    Once, after training, for a quantizer with `unit_codewords=False` or with several levels; see
    `tfpqn.codebooks.settling.settle_codebooks`. An item that lies between classes then scores
    lower than one that does not, as with soft reconstructions.

    Args:
        network: A trained `ProductQuantizationNetwork`.
        images: Batches of training images `[batch, height, width, channels]`, many per codeword.
        seed: Seed of the clustering.

    Raises:
        ValueError: There is no image, an embedding is not finite, or there is nothing to settle.
    """
    settling.settle_codebooks(
        network.quantizer,
        embed_batches(network, images),
        functools.partial(_cluster, seed=seed),
    )


def embed_batches(
    network: NetworkLike, images: Iterable[np.ndarray], training: bool = False
) -> np.ndarray:
    """Embeddings `[images, embedding_dim]` of batches, in the form that search compares.

    Args:
        network: A `ProductQuantizationNetwork`.
        images: Batches of images `[batch, height, width, channels]`.
        training: Whether they are those that training sees.

    Raises:
        ValueError: There is no batch.
    """
    if training:
        found = [ops.convert_to_numpy(network.embed(batch, training=True)) for batch in images]
    else:
        # Compiled, a pretrained backbone is more than twice as fast, although this codes too.
        found = [network.predict_on_batch(batch)["embeddings"] for batch in images]
    if not found:
        raise ValueError("images must hold at least one batch. Received: none")
    return np.concatenate(found)


def _cluster(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    num_clusters = min(num_clusters, len(np.unique(vectors, axis=0)))
    if num_clusters < MINI_BATCH_FROM:
        clustering = KMeans(num_clusters, n_init=1, max_iter=25, random_state=seed)
    else:
        # k-means++ would take 3 to 8 times as long, and end with the same error.
        clustering = MiniBatchKMeans(
            num_clusters, init="random", n_init=1, batch_size=4096, random_state=seed
        )
    with warnings.catch_warnings():
        # Nearly equal vectors leave some centres alike: such codewords die, and are revived.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clustering.fit(vectors).cluster_centers_
