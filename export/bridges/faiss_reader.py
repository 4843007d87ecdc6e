"""A network of vectors, and codes, from a FAISS index."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfpqn.codebooks.fitting import FARTHEST_MEAN
from tfpqn.codebooks.levels import write_levels
from tfpqn.layers import ProductQuantization, Quantizer, ResidualProductQuantization
from tfpqn.models import ProductQuantizationNetwork

from .faiss_codes import Collection, read_collection
from .faiss_library import import_faiss
from .faiss_norms import fit_last_position

# How far the product of a rotation and its transpose may be from the identity.
TOLERANCE = 1e-3


class _Linear(NamedTuple):
    """What transforms do to a vector: `x @ matrix + offset`, and then perhaps unit length."""

    matrix: np.ndarray
    offset: np.ndarray
    normalizes: bool = False

    @property
    def is_identity(self) -> bool:
        return not self.offset.any() and _is_identity(self.matrix, 0.0)

    @property
    def is_rotation(self) -> bool:
        num_rows, num_columns = self.matrix.shape
        is_square = num_rows == num_columns and not self.offset.any()
        return is_square and _is_identity(self.matrix @ self.matrix.T, TOLERANCE)


def from_faiss(faiss_index: Any) -> tuple[ProductQuantizationNetwork, np.ndarray]:
    """A network of vectors and the codes of a trained FAISS index; nothing is coded again.

    `IndexPQ`, `IndexPQFastScan` and `IndexIVFPQ` with `by_residual=False` give the layer
    `ProductQuantization`; `IndexResidualQuantizer` and `IndexProductResidualQuantizer` give
    `ResidualProductQuantization`. They may stand in `IndexIDMap` and in `IndexPreTransform` with
    linear transforms, such as OPQ and PCA, and a normalisation. `METRIC_L2` becomes similarity l2,
    or cosine after a normalisation, and the inner product dot. Searches find what FAISS finds when
    it compares all items: lists are left behind, `Searcher(partition=)` makes new ones.

    Residual quantizers with `METRIC_L2` need the lengths of items. Codes hold them in one position
    more, rounded to one of `num_codewords` values, so close items may come in another order than in
    FAISS. Where FAISS itself keeps 8 bits (`_Nqint8`, `_Ncqint8`, codebooks of 8 bits) they are the
    same.

    Args:
        faiss_index: What `faiss.read_index` gives. Read files of people you trust alone: FAISS is
            no safe reader of others.

    Returns:
        The network, and codes `[num_items, code_length]` of the quantizer's code dtype. The rows
        are FAISS' positions, of lists in ascending order of their ids; `read_faiss_ids` gives
        their ids.

    Raises:
        ImportError: FAISS is not installed.
        TypeError: It is no FAISS index.
        ValueError: It is of another kind, or not trained; codewords are not finite, or lie so far
            from 0 that float32 cannot tell their distances.
    """
    inner, transforms, _ = _unwrap(faiss_index)
    linear = _join(transforms)
    collection = read_collection(inner)
    similarity = _choose_similarity(inner, linear)
    _require_exact_scores(collection.levels, similarity)
    quantizer = _make_quantizer(collection, similarity)
    codes = collection.codes
    if quantizer.code_length > codes.shape[1]:
        norms, last = fit_last_position(inner, collection)
        quantizer.norms.assign(norms)
        codes = np.concatenate([codes, last[:, np.newaxis]], axis=1)
    return _make_network(quantizer, linear), codes.astype(quantizer.code_dtype)


def read_faiss_ids(faiss_index: Any) -> NDArray[np.int64]:
    """The ids int64 `[num_items]` of the rows of codes that `from_faiss` gives.

    Raises:
        ImportError, TypeError, ValueError: As `from_faiss`.
    """
    inner, _, id_map = _unwrap(faiss_index)
    ids = read_collection(inner).ids
    return ids if id_map is None else id_map[ids]


def _unwrap(faiss_index: Any) -> tuple[Any, list[Any], np.ndarray | None]:
    """The index that holds the codes, the transforms before it, and ids by its own ids."""
    faiss = import_faiss()
    if not isinstance(faiss_index, faiss.Index):
        raise TypeError(f"faiss_index must be a faiss.Index. Received: {type(faiss_index)}")
    transforms: list[Any] = []
    id_map = None
    inner = faiss.downcast_index(faiss_index)
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexIDMap):
        if isinstance(inner, faiss.IndexIDMap):
            own = faiss.vector_to_array(inner.id_map)
            id_map = own if id_map is None else id_map[own]
        else:
            chain = map(inner.chain.at, range(inner.chain.size()))
            transforms += map(faiss.downcast_VectorTransform, chain)
        inner = faiss.downcast_index(inner.index)
    return inner, transforms, id_map


def _join(transforms: list[Any]) -> _Linear | None:
    """All transforms as one; None if there are none."""
    faiss = import_faiss()
    joined = None
    for transform in transforms:
        before = joined or _Linear(np.eye(transform.d_in), np.zeros(transform.d_in))
        if isinstance(transform, faiss.NormalizationTransform) and transform.norm == 2:
            joined = before._replace(normalizes=True)
            continue
        if not isinstance(transform, faiss.LinearTransform) or not transform.is_trained:
            raise ValueError(
                "transforms must be trained linear ones, or a normalisation to length 1. Received: "
                f"{type(transform).__name__}"
            )
        own = _read_linear(transform)
        if before.normalizes and not own.is_rotation:
            raise ValueError(
                "A normalisation must come after all transforms that change lengths. Received: a "
                f"{type(transform).__name__} after it"
            )
        matrix, offset = before.matrix @ own.matrix, before.offset @ own.matrix + own.offset
        joined = _Linear(matrix, offset, before.normalizes)
    return joined


def _read_linear(transform: Any) -> _Linear:
    faiss = import_faiss()
    matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in).T
    offset = np.zeros(transform.d_out)
    if transform.have_bias:
        offset += faiss.vector_to_array(transform.b)
    return _Linear(matrix, offset)


def _choose_similarity(inner: Any, linear: _Linear | None) -> str:
    faiss = import_faiss()
    normalizes = linear is not None and linear.normalizes
    if inner.metric_type == faiss.METRIC_L2:
        return "cosine" if normalizes else "l2"
    if inner.metric_type != faiss.METRIC_INNER_PRODUCT or normalizes:
        raise ValueError(
            "The metric must be METRIC_L2 or METRIC_INNER_PRODUCT, the latter without a "
            f"normalisation. Received: metric_type={inner.metric_type}"
            f"{' after a normalisation' if normalizes else ''}"
        )
    return "dot"


def _require_exact_scores(levels: np.ndarray, similarity: str) -> None:
    """Raises ValueError where float32 cannot tell the scores of sums of codewords."""
    is_finite = np.isfinite(levels).all(axis=-1)
    if not is_finite.all():
        raise ValueError(
            "Codewords must be finite. Received: NaN or infinity in "
            f"{np.count_nonzero(~is_finite)} of {is_finite.size} codewords"
        )
    means = levels.mean(axis=2, keepdims=True, dtype=np.float64)
    squared_length = float(np.square(means.sum(axis=0)).sum())
    squared_spread = float(np.square(levels - means).sum(axis=-1).mean(axis=-1).sum())
    if similarity == "l2" and squared_length > FARTHEST_MEAN * squared_spread > 0:
        raise ValueError(
            "With METRIC_L2 codewords must lie around 0, where float32 tells their distances: "
            "train FAISS on vectors less their mean, and subtract it from queries too. Received: "
            f"a mean of length {squared_length**0.5:.3g} and a spread of {squared_spread**0.5:.3g}"
        )


def _make_quantizer(collection: Collection, similarity: str) -> Quantizer:
    num_levels, *sizes, subvector_dim = collection.levels.shape
    quantizer: Quantizer
    if num_levels == 1:
        quantizer = ProductQuantization(*sizes, similarity=similarity)
    else:
        quantizer = ResidualProductQuantization(
            num_levels, *sizes, similarity=similarity, beam_size=collection.beam_size
        )
    quantizer.build((None, sizes[0] * subvector_dim))
    write_levels(quantizer, collection.levels)
    return quantizer


def _make_network(quantizer: Quantizer, linear: _Linear | None) -> ProductQuantizationNetwork:
    if linear is None or linear.is_identity:
        dim, embedding_dim, weights = quantizer.embedding_dim, None, []
    else:
        dim, embedding_dim = linear.matrix.shape
        weights = [linear.matrix, linear.offset]
    has_rotation = embedding_dim is not None and linear is not None and linear.is_rotation
    network = ProductQuantizationNetwork(
        None,
        quantizer,
        None if has_rotation else embedding_dim,
        center_embeddings=False,
        rotation=has_rotation,
    )
    network.build((None, dim))
    network.embedding.set_weights(weights[:1] if has_rotation else weights)
    return network


def _is_identity(matrix: np.ndarray, tolerance: float) -> bool:
    size = len(matrix)
    return matrix.shape == (size, size) and np.allclose(matrix, np.eye(size), 0.0, tolerance)
