"""A linear map, learned without labels, after which neighbours differ alike in all directions."""

from __future__ import annotations

import numpy as np
from keras import ops

from tfpqn.codebooks import lloyd
from tfpqn.codebooks.ranking import MOST_QUERIES, distances_in_chunks
from tfpqn.codebooks.rotation import deal_directions
from tfpqn.protocols import NetworkLike

# All chosen on photos of groceries, of clothing and on Fashion-MNIST, as EfficientNet-Lite0 sees
# them.
NEIGHBOURS = 5
CLUSTERS = 50
ITERATIONS = 15
# Principal directions that have a part, and the variance added to each, as a share of the mean.
MOST_DIRECTIONS = 512
ADDED = 0.1


def whiten_features(network: NetworkLike, vectors: np.ndarray, *, seed: int = 0) -> None:
    """Fit the linear layer of a network's embedding to vectors, as `fit_whitening` says.

    Args:
        network: A `ProductQuantizationNetwork` without a backbone, whose embedding has an
            `embedding_dim` and neither centring nor rotation.
        vectors: Float array `[num_vectors, num_features]`.
        seed: Seed of the draw.
    """
    *scaling, linear = network.embedding.layers
    features = ops.convert_to_tensor(vectors)
    for layer in scaling:
        features = layer(features)
    features = ops.convert_to_numpy(features)
    dim = min(linear.units, features.shape[1])
    kernel, bias = fit_whitening(features, dim, np.random.default_rng(seed))
    # Of few features the rest of the embedding is 0.
    kernel, bias = (
        np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, linear.units - dim)]) for x in (kernel, bias)
    )
    # No subspace has all of the variance.
    turn = deal_directions(features @ kernel + bias, network.quantizer.num_subspaces)
    linear.set_weights([kernel @ turn, bias @ turn])


def fit_whitening(
    vectors: np.ndarray, dim: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take away by what an item differs from its nearest: light, pose, background.

    The differences of items and their nearest, by cosine around the mean, have a covariance. The
    map makes that the same in all directions, and keeps the directions in which items then vary
    most. Then it does the same with what directions of items differ in within clusters. A search by
    cosine of `vectors @ kernel + bias` finds more items of the same kind than one of the vectors.

    Args:
        vectors: Float array `[num_vectors, num_features]`.
        dim: Length of what the map gives.
        rng: Source of the draw of items whose nearest are looked for.

    Returns:
        float32 `kernel` `[num_features, dim]` and `bias` `[dim]`.

    Raises:
        ValueError: There are too few vectors or features.

    Reference:
        Bar-Hillel, Hertz, Shental, Weinshall: "Learning a Mahalanobis Metric from Equivalence
        Constraints", JMLR 2005, whose constraints are neighbours here.
    """
    num_vectors, num_features = vectors.shape
    if num_vectors <= NEIGHBOURS or num_features < dim:
        raise ValueError(
            f"Whitening needs {NEIGHBOURS + 1} vectors of {dim} features or more: leave it out "
            f"(--no-whiten). Received: {num_vectors} of {num_features}"
        )
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = (vectors - mean).astype(np.float32)
    kernel = _principal(centred, max(dim, min(MOST_DIRECTIONS, num_features)))
    reduced = centred @ kernel
    rows = rng.permutation(num_vectors)[:MOST_QUERIES]
    nearest = _find_nearest(_to_units(reduced), rows)
    differences = (reduced[rows, None] - reduced[nearest]).reshape(-1, reduced.shape[1])
    kernel = kernel @ _whiten(differences)
    kernel = kernel @ _principal(centred @ kernel, dim)
    units = _to_units(centred @ kernel)
    clusters = lloyd.cluster(units, min(CLUSTERS, num_vectors), rng, ITERATIONS)
    kernel = kernel @ _whiten(units - clusters[lloyd.assign_nearest(units, clusters)])
    return kernel, (-mean @ kernel).astype(np.float32)


def _whiten(differences: np.ndarray) -> np.ndarray:
    """The map under which differences `[number, dim]` vary alike: float32 `[dim, dim]`."""
    covariance = (differences.T @ differences).astype(np.float64) / len(differences)
    variances, directions = np.linalg.eigh(covariance)
    variances = variances + ADDED * variances.mean() + 1e-12
    return (directions / np.sqrt(variances)).astype(np.float32)


def _to_units(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _find_nearest(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those nearest to some of the vectors, without themselves: `[num_rows, NEIGHBOURS]`."""
    return np.concatenate(
        [
            np.argpartition(distances, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            for distances in distances_in_chunks(vectors, rows, vectors)
        ]
    )


def _principal(centred: np.ndarray, number: int) -> np.ndarray:
    """The directions of largest variance, float32 `[dim, number]`."""
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.ascontiguousarray(directions[:, ::-1][:, :number], np.float32)
