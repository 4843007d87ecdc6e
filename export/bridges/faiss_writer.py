"""A network and its coded collection as a FAISS index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.index import CodeIndex, network_layout
from tfpqn.similarities import SIMILARITIES, SUBSPACE

from ..model.searcher import Searcher
from ..search.storages.distinct_codes import DistinctCodes
from ..search.storages.partitioned_codes import PartitionedCodes
from .argument_types import require_types
from .faiss_library import ROWS_PER_BLOCK, import_faiss, set_vector

# `IndexPQFastScan` knows codes of 4 bits alone.
FAST_SCAN_CODEWORDS = 16


class _Lists(NamedTuple):
    """The lists of a searcher.

    Attributes:
        centroids: float32 `[num_lists, embedding_dim]`, by which FAISS ranks the lists likewise.
        positions: `[num_items]`, list after list.
        splits: `[num_lists + 1]`, where each list begins and ends in `positions`.
        num_probes: Lists that a query looks at.
    """

    centroids: np.ndarray
    positions: np.ndarray
    splits: np.ndarray
    num_probes: int


def to_faiss(
    network: Any,
    index: CodeIndex,
    *,
    searcher: Searcher | None = None,
    fast_scan: bool = False,
) -> Any:
    """A FAISS index that finds the items that `Searcher(network, index)` finds.

    Nothing is trained or coded again: codebooks, codes and ids are copied. One level becomes
    `IndexPQ`, several levels `IndexProductResidualQuantizer`, and with a searcher of lists
    `IndexIVFPQ` or `IndexIVFProductResidualQuantizer`. Similarities dot and subspace are FAISS'
    inner product, and the distances of l2 and cosine are `METRIC_L2`: the score is minus the
    distance (l2), or 1 less half of it (cosine).

    Queries are the raw vectors where the network takes whole vectors: its linear layers, its
    rotation and its normalisation become transforms of the FAISS index. For images, clips, scaled
    features and similarity subspace they are what `network.embed` gives.

    FAISS ids are the ids of the index if they are integers, and else positions in the index:
    `index.ids[positions]` names the items.

    Args:
        network: A built `ProductQuantizationNetwork`; each codebook has a power of two codewords.
        index: The collection, coded by this network.
        searcher: A searcher of this network and index with lists, which the result gets too, and
            as many probes. None for a search over all items.
        fast_scan: Whether to make `IndexPQFastScan`, for 16 codewords and one level. It rounds the
            tables of a query to 8 bits, so scores and the order of close items differ.

    Returns:
        A `faiss.Index`; `faiss.write_index` writes it.

    Raises:
        ImportError: FAISS is not installed.
        TypeError: An argument is of another type.
        ValueError: The index has other codebooks, FAISS has no such codes, or the searcher has no
            lists or another collection.

    Example:

    >>> faiss_index = tfpqn.export.to_faiss(network, index)
    >>> vector_network, codes = tfpqn.export.from_faiss(faiss_index)
    >>> codes.shape
    (9, 4)
    """
    require_types(network, index, searcher)
    index.require_layout(network_layout(network))
    product = network.quantizer.product_quantizer()
    _require_power_of_two(product.num_codewords)
    lists = None if searcher is None else _read_lists(searcher, index)
    if fast_scan:
        _require_fast_scan(product, lists)
    made = _make_empty(product, lists)
    if lists is None:
        for rows in _blocks(len(index)):
            made.add_sa_codes(_pack(product, made, index.codes[rows]))
        made = _add_ids(import_faiss().IndexPQFastScan(made) if fast_scan else made, index)
    else:
        _fill_lists(made, product, index, lists)
    return _add_transforms(made, network)


def _make_empty(product: Any, lists: _Lists | None) -> Any:
    """An index with the codebooks of a quantizer, and with the lists, but no items."""
    faiss = import_faiss()
    dim, num_bits = product.embedding_dim, product.num_codewords.bit_length() - 1
    by_distance = SIMILARITIES[product.similarity].norm_weight > 0
    metric = faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT
    name, sizes = "PQ", [product.num_subspaces, num_bits, metric]
    if product.num_levels > 1:
        additive = faiss.AdditiveQuantizer
        kind = additive.ST_norm_float if by_distance else additive.ST_LUT_nonorm
        name = "ProductResidualQuantizer"
        sizes = [product.num_subspaces, product.num_levels, num_bits, metric, kind]
    if lists is None:
        made = getattr(faiss, f"Index{name}")(dim, *sizes)
    else:
        coarse = faiss.IndexFlat(dim, metric)
        coarse.add(lists.centroids)
        made = getattr(faiss, f"IndexIVF{name}")(coarse, dim, len(lists.centroids), *sizes)
        made.by_residual, made.nprobe = False, lists.num_probes
        # Python would free it while the index still needs it.
        coarse.this.disown()
        made.own_fields = True
    _set_codebooks(made, product)
    made.is_trained = True
    return made


def _set_codebooks(made: Any, product: Any) -> None:
    numbers = range(product.num_levels)
    decoded = [ops.convert_to_numpy(product.decoded_codebooks(number)) for number in numbers]
    if product.num_levels == 1:
        set_vector(made.pq.centroids, decoded[0])
        return
    # FAISS goes subspace by subspace, and in each level by level.
    by_subspace = np.stack(decoded, axis=1)
    for number, codebooks in enumerate(by_subspace):
        part = import_faiss().downcast_Quantizer(made.prq.subquantizer(number))
        set_vector(part.codebooks, codebooks)
        part.max_beam_size = product.beam_size
        part.is_trained = True
    set_vector(made.prq.codebooks, by_subspace)
    made.prq.is_trained = True


def _pack(product: Any, made: Any, codes: np.ndarray) -> np.ndarray:
    """Codes `[rows, code_length]` as FAISS stores them: uint8 `[rows, code_size]`."""
    faiss = import_faiss()
    num_own = product.num_levels * product.num_subspaces
    own = codes[:, :num_own].astype(np.int32)
    by_level = own.reshape(len(codes), product.num_levels, product.num_subspaces)
    ordered = np.ascontiguousarray(by_level.swapaxes(1, 2)).reshape(own.shape)
    packed = faiss.pack_bitstrings(ordered, product.num_codewords.bit_length() - 1)
    if len(packed[0]) == made.code_size:
        return packed
    norms = _measure_norms(product, codes)
    whole = np.zeros((len(codes), made.code_size), np.uint8)
    pointers = map(faiss.swig_ptr, (ordered, whole))
    made.prq.pack_codes(len(codes), *pointers, -1, faiss.swig_ptr(norms))
    return whole


def _measure_norms(product: Any, codes: np.ndarray) -> np.ndarray:
    """What scores take as squared lengths of items: float32 `[rows]`."""
    parts = ops.convert_to_numpy(product.squared_norms())
    return np.ascontiguousarray(parts[np.arange(len(parts)), codes].sum(axis=1), np.float32)


def _fill_lists(made: Any, product: Any, index: CodeIndex, lists: _Lists) -> None:
    """Add the items with the numbers of their lists, which FAISS' own coding would choose anew."""
    numbers = np.repeat(np.arange(len(lists.centroids), dtype="<i8"), np.diff(lists.splits))
    ids = index.ids if index.id_type == "int64" else np.arange(len(index))
    width = made.coarse_code_size()
    for rows in _blocks(len(index)):
        positions = lists.positions[rows]
        coarse = numbers[rows, np.newaxis].view(np.uint8)[:, :width]
        packed = np.hstack([coarse, _pack(product, made, index.codes[positions])])
        made.add_sa_codes(packed, np.ascontiguousarray(ids[positions], np.int64))


def _add_ids(made: Any, index: CodeIndex) -> Any:
    """The index with the ids of the items, unless they are strings or positions."""
    faiss = import_faiss()
    if index.id_type == "string" or np.array_equal(index.ids, np.arange(len(index))):
        return made
    # FAISS wraps none but an empty index.
    made.ntotal = 0
    named = faiss.IndexIDMap(made)
    made.ntotal = named.ntotal = len(index)
    faiss.copy_array_to_vector(np.array(index.ids, np.int64), named.id_map)
    return named


def _add_transforms(made: Any, network: Any) -> Any:
    """The index behind what the network does with a vector before it is searched for."""
    faiss = import_faiss()
    similarity = network.quantizer.similarity
    if network.backbone is not None or network.scale_features or similarity == SUBSPACE:
        return made
    transforms = []
    (dim,) = network.image_shape
    matrix, offset = _read_linear(network.embedding, dim)
    if offset.any() or not np.array_equal(matrix, np.eye(dim)):
        transforms.append(_make_linear(matrix, offset))
    if similarity == "cosine":
        transforms.append(faiss.NormalizationTransform(made.d, 2.0))
    if not transforms:
        return made
    turned = faiss.IndexPreTransform(made)
    for transform in reversed(transforms):
        turned.prepend_transform(transform)
    return turned


def _read_linear(embedding: Any, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of linear layers, in float64: offsets may be large beside the matrix."""
    matrix, offset = np.eye(dim), np.zeros(dim)
    for layer in embedding.layers:
        weights = [ops.convert_to_numpy(weight).astype(np.float64) for weight in layer.weights]
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = weights
            offset, scale = offset - mean, 1 / np.sqrt(variance + layer.epsilon)
            matrix, offset = matrix * scale, offset * scale
        elif weights:
            matrix, offset = matrix @ weights[0], offset @ weights[0]
            offset = offset + weights[1] if layer.use_bias else offset
    return matrix, offset


def _make_linear(matrix: np.ndarray, offset: np.ndarray) -> Any:
    """The transform `x @ matrix + offset`."""
    faiss = import_faiss()
    linear = faiss.OPQMatrix(len(matrix), 1, len(offset))
    set_vector(linear.A, matrix.T)
    if offset.any():
        set_vector(linear.b, offset)
        linear.have_bias = True
    linear.is_trained = True
    linear.set_is_orthonormal()
    return linear


def _read_lists(searcher: Searcher, index: CodeIndex) -> _Lists:
    storage = searcher.storage
    lists = storage.rows if isinstance(storage, DistinctCodes) else storage
    if not isinstance(lists, PartitionedCodes) or searcher.code_length != index.layout.code_length:
        raise ValueError(
            "searcher must have lists of whole codes: make it with partition, and without "
            f"num_levels and rerank. Received: {storage.describe()}"
        )
    ids = searcher.ids.at(np.arange(searcher.num_items)).numpy().tolist()
    if searcher.id_type == "string":
        ids = [one.decode() for one in ids]
    same_ids = ids == index.ids.tolist()
    if searcher.layout != index.layout or not same_ids:
        raise ValueError(
            "searcher must hold the items of index. Received: "
            f"{searcher.num_items} items, and an index of {len(index)} other ones"
        )
    positions = lists.positions.numpy()
    positions = positions[positions >= 0]
    splits = np.cumsum([0, *np.bincount(lists.list_of_item.numpy())])
    if isinstance(storage, DistinctCodes):
        # List after list, the items of each code.
        items_of_code = np.split(storage.positions.numpy(), storage.splits.numpy()[1:-1])
        ends = np.cumsum([0, *(len(items_of_code[code]) for code in positions)])
        positions = np.concatenate([items_of_code[code] for code in positions])
        splits = ends[splits]
    rank_vectors = np.ascontiguousarray(lists.rank_vectors.numpy().T)
    return _Lists(rank_vectors, positions, splits, lists.num_probes)


def _require_power_of_two(num_codewords: int) -> None:
    if num_codewords & (num_codewords - 1):
        raise ValueError(
            "FAISS numbers codewords by whole bits: num_codewords must be a power of two. "
            f"Received: num_codewords={num_codewords}"
        )


def _require_fast_scan(product: Any, lists: _Lists | None) -> None:
    sizes = product.num_codewords, product.num_levels
    if sizes != (FAST_SCAN_CODEWORDS, 1) or lists is not None:
        raise ValueError(
            f"fast_scan needs {FAST_SCAN_CODEWORDS} codewords, one level and no lists. Received: "
            f"num_codewords={sizes[0]}, {sizes[1]} levels, "
            f"{'no' if lists is None else len(lists.centroids)} lists"
        )


def _blocks(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, ROWS_PER_BLOCK):
        yield slice(start, min(start + ROWS_PER_BLOCK, num_rows))
