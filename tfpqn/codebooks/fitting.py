"""Codebooks, and a rotation, for vectors that no training has made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfpqn._text import counted
from tfpqn.codebooks import lloyd
from tfpqn.codebooks.joint_levels import assign_norms, fit_levels
from tfpqn.codebooks.levels import write_levels
from tfpqn.codebooks.ranking import rank_neighbours
from tfpqn.codebooks.rotation import fit_rotation, split
from tfpqn.layers.residual_product_quantization import ResidualProductQuantization
from tfpqn.protocols import NetworkLike, QuantizerLike

Progress = Callable[[str, int, int], None]

# Vectors per codeword that decide, drawn at random; more hardly change the result.
MOST_VECTORS = 1000
MOST_VECTORS_FOR_ROTATION = 300
# With fewer a codeword, codes suit the fitted vectors better than others; FAISS warns there too.
FEWEST_VECTORS = 39
# Squared length of the mean over the mean squared distance from it: beyond, rounding counts.
FARTHEST_MEAN = 1e4
# Beyond this length float32 holds no sums of squares.
LONGEST = 1e15


def fit_vectors(
    network: NetworkLike,
    vectors: np.ndarray,
    *,
    seed: int = 0,
    iterations: int = 25,
    progress: Progress | None = None,
) -> None:
    """Fit the rotation and the codebooks of a network to vectors, without training.

    Codes then stand for the vectors themselves, and searches rank as the vectors do. Levels whose
    codes hold norms (cosine, l2) are then moved by gradient, for the ranking of neighbours.

    Args:
        network: A `ProductQuantizationNetwork` without a backbone: its `quantizer` has a
            `similarity` other than `"subspace"`, and `rotation` is a layer or None.
        vectors: Float array `[num_vectors, dim]`, some 100 or more per codeword; or those of the
            collection itself.
        seed: Seed of the draws.
        iterations: Rounds of k-means of each codebook, and turns of the rotation.
        progress: Called as `progress(step, done, total)` after each round; `step` is
            `"rotation"`, `"codebooks"`, `"levels"` or `"ranking"`.

    Raises:
        ValueError: The vectors have the wrong shape, are not finite, or are none; float32 cannot
            tell their distances (l2), or not hold their squared lengths (dot), or one has no
            direction (cosine); the network is one that training fits.

    Reference:
        Jegou, Douze, Schmid: "Product Quantization for Nearest Neighbor Search", PAMI 2011.
    """
    quantizer = network.quantizer
    rng = np.random.default_rng(seed)
    vectors = check_vectors(quantizer, quantizer.product_embeddings(vectors))
    _warn_of_few(len(vectors), quantizer.num_codewords)
    vectors = _draw(vectors, MOST_VECTORS * quantizer.num_codewords, rng)
    tell = progress or (lambda step, done, total: None)
    if network.rotation is not None:
        rotation = fit_rotation(
            _draw(vectors, MOST_VECTORS_FOR_ROTATION * quantizer.num_codewords, rng),
            quantizer.num_subspaces,
            quantizer.num_codewords,
            rng,
            iterations,
            lambda done: tell("rotation", done, iterations),
        )
        network.rotation.kernel.assign(rotation)
        vectors = vectors @ rotation
    _fit_codebooks(quantizer, vectors, rng, iterations, tell)


def check_vectors(quantizer: QuantizerLike, vectors: Any) -> np.ndarray:
    """Vectors in the form that scores compare; a rotation keeps it.

    Args:
        quantizer: It need not be built yet.
        vectors: Finite, `[num_vectors, dim]`.

    Raises:
        ValueError: `fit_vectors` cannot fit the quantizer to them.
    """
    if quantizer.similarity == "subspace":
        raise ValueError(
            'The quantizer must have similarity="cosine", "dot" or "l2"; codebooks of the others '
            "are fitted by training. Received: a quantizer of subspaces"
        )
    vectors = ops.convert_to_numpy(quantizer.normalize(vectors))
    if not len(vectors):
        raise ValueError("vectors must hold at least one vector. Received: none")
    longest = float(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64).max()) ** 0.5
    if quantizer.similarity == "dot" and longest > LONGEST:
        raise ValueError(
            f"With similarity dot vectors must be no longer than {LONGEST:.0e}, so that float32 "
            f"holds their squares: scale them, also queries. Received: a length of {longest:.3g}"
        )
    if quantizer.similarity == "l2":
        _require_exact_distances(vectors, longest)
    if quantizer.similarity == "cosine" and not vectors.any(axis=1).all():
        number = counted(int(np.count_nonzero(~vectors.any(axis=1))), "vectors")
        raise ValueError(
            f"With similarity cosine each vector must have a direction. Received: {number} of "
            "zeros; leave them out, or choose similarity l2"
        )
    return np.asarray(vectors, np.float32)


def _warn_of_few(num_vectors: int, num_codewords: int) -> None:
    if num_vectors < FEWEST_VECTORS * num_codewords:
        warnings.warn(
            f"Codebooks of {num_codewords:,} codewords are fitted to "
            f"{counted(num_vectors, 'vectors')}, fewer than {FEWEST_VECTORS} each: codes of other "
            "vectors will be worse. Take more vectors, or fewer bits a position: fewer --bits, or "
            "more --num-subspaces (in Python num_codewords)",
            stacklevel=3,
        )


def _require_exact_distances(vectors: np.ndarray, longest: float) -> None:
    """Raises ValueError where float32 cannot tell distances: far from 0, too large or too small."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = float(np.square(vectors - mean).sum(axis=1).mean())
    is_far = np.square(mean).sum() > FARTHEST_MEAN * spread > 0
    if is_far or longest > LONGEST or 0 < spread < 1e-20:
        raise ValueError(
            "With similarity l2 vectors must lie around 0, where float32 tells their distances: "
            "subtract their mean, or scale them, also those of queries. Received: a mean of length "
            f"{np.linalg.norm(mean):.3g} and a spread of {spread**0.5:.3g}"
        )


def _fit_codebooks(
    quantizer: QuantizerLike,
    vectors: np.ndarray,
    rng: np.random.Generator,
    iterations: int,
    tell: Progress,
) -> None:
    if quantizer.num_levels > 1:
        parts = vectors.reshape(len(vectors), quantizer.num_subspaces, -1)
        _fit_levels(quantizer.product_quantizer(), parts, rng, tell)
        return
    codebooks = []
    for part in split(vectors, quantizer.num_subspaces):
        codebooks.append(lloyd.cluster(part, quantizer.num_codewords, rng, iterations))
        tell("codebooks", len(codebooks), quantizer.num_subspaces)
    write_levels(quantizer, np.stack(codebooks)[None])


def _fit_levels(
    product: ResidualProductQuantization,
    vectors: np.ndarray,
    rng: np.random.Generator,
    tell: Progress,
) -> None:
    codes = fit_levels(product, vectors, rng, lambda *done: tell("levels", *done))
    # Queries of inner products are seldom vectors like the items: items cannot stand in for them.
    if product.has_norms:
        codes = rank_neighbours(product, vectors, codes, rng, lambda *done: tell("ranking", *done))
        assign_norms(product, vectors, codes)


def _draw(vectors: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of the vectors, in their order."""
    if len(vectors) <= most:
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), most, replace=False))]
