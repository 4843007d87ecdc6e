"""Soft product quantization as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfpqn.layers.quantizer import Quantization, Quantizer, Tensor, require_at_least
from tfpqn.ops import (
    assign_hard,
    assign_soft,
    build_lookup_tables,
    decode_codes,
    intra_normalize,
    merge_subvectors,
    normalize_vectors,
    rank_by_distance,
    reconstruct_soft,
    split_subvectors,
)
from tfpqn.similarities import SIMILARITIES, SUBSPACE, require_similarity


@keras.saving.register_keras_serializable(package="tfpqn")
class ProductQuantization(Quantizer):
    """Product quantization, soft in training and hard at inference.

    Each embedding is cut into `num_subspaces` subvectors of unit length. In training a subvector is
    replaced by a softmax-weighted sum of the unit codewords of its subspace, so gradients reach
    both the embedding and the codewords; at inference by the most similar codeword, whose position
    is the code.

    Args:
        num_subspaces: Number of slices, each with a codebook of its own. It must divide the
            embedding's length.
        num_codewords: Size of each codebook, at least 2. A code takes
            `num_subspaces * log2(num_codewords)` bits.
        alpha: Hardness of the soft assignment, in the paper's distance form. Useful between 1 and
            20; as it grows the layer tends to hard product quantization and gradients vanish.
        unit_codewords: Whether codes decode to codewords of unit length, as in the paper and by
            default with similarity "subspace". If not,
            to codewords as long as they are, which tells how sure an item is of them; then the
            nearest codeword is chosen, as in plain product quantization. Training goes by the
            directions alone; `tfpqn.training.initialize_codebooks` before it and
            `tfpqn.training.settle_codebooks` after it set the lengths.
        soft_codes: Whether a code names the codewords nearest to the soft reconstruction, which
            training has ranked, not those nearest to the embedding. For settled codebooks: codes
            then lose less of what training has reached.
        similarity: What scores compare. `"subspace"` is the paper's: inner products of subvectors
            of unit length. `"cosine"`, `"dot"` and `"l2"` rank whole vectors as their source does,
            without training: `tfpqn.training.fit_vectors` fits the codebooks. With them codewords
            have their own lengths, and the nearest by distance is chosen.
            A score is the inner product with the reconstruction (dot), minus the squared distance
            from it (l2), or 1 less half the squared distance between the query of unit length and
            the reconstruction (cosine).
        codebooks_initializer: Initializer of the codebooks, random directions by default.
            `tfpqn.training.initialize_codebooks` replaces them by k-means centres.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        embeddings: Float tensor `[batch, embedding_dim]`; it need not be normalised.
        training: Whether to reconstruct softly (True) or by the chosen codeword (False).

    Returns:
        Reconstructions `[batch, embedding_dim]`.

    Raises:
        ValueError: An argument is out of range, or `num_subspaces` does not divide the length.

    Example:

    >>> layer = tfpqn.layers.ProductQuantization(num_subspaces=4, num_codewords=64)
    >>> codes = layer.encode(np.random.normal(size=(8, 32)))
    >>> tuple(codes.shape)
    (8, 4)
    >>> tuple(layer.lookup_tables(np.random.normal(size=(2, 32))).shape)
    (2, 4, 64)

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018.
    """

    # Whether the last position of a code is that of a squared norm.
    has_norms = False

    def __init__(
        self,
        num_subspaces: int = 4,
        num_codewords: int = 256,
        alpha: float = 5.0,
        *,
        unit_codewords: bool | None = None,
        soft_codes: bool = False,
        similarity: str = "subspace",
        codebooks_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("num_subspaces", num_subspaces, 1)
        require_at_least("num_codewords", num_codewords, 2)
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be positive and finite. Received: alpha={alpha}")
        if unit_codewords is None:
            unit_codewords = similarity == "subspace"
        require_similarity(similarity, unit_codewords)
        self.num_subspaces = num_subspaces
        self.num_codewords = num_codewords
        self.alpha = alpha
        self.unit_codewords = unit_codewords
        self.soft_codes = soft_codes
        self.similarity = similarity
        self.codebooks_initializer = keras.initializers.get(
            codebooks_initializer or keras.initializers.RandomNormal(stddev=1.0)
        )

    @property
    def code_length(self) -> int:  # type: ignore[override]
        return self.num_levels * self.num_subspaces

    @property
    def embedding_dim(self) -> int:
        self._require_built("embedding_dim")
        return self.num_subspaces * self.codebooks.shape[-1]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._add_codebooks(input_shape[-1], (), self.codebooks_initializer)

    def unit_codebooks(self) -> Tensor:
        """Codewords of unit length that train, `[num_subspaces, num_codewords, subvector_dim]`."""
        return normalize_vectors(self._level_codebooks(0))

    def trained_codebooks(self) -> Tensor:
        """What training mixes: unit codewords, or the codewords that whole vectors compare with."""
        return self.unit_codebooks() if self.similarity == "subspace" else self._level_codebooks(0)

    def decoded_codebooks(self, level: int = 0) -> Tensor:
        """What codes of a level decode to, `[num_subspaces, num_codewords, subvector_dim]`."""
        if self.unit_codewords and not level:
            return self.unit_codebooks()
        return self._level_codebooks(level)

    def normalize(self, embeddings: Tensor) -> Tensor:
        embeddings = ops.cast(embeddings, self.variable_dtype)
        if self.similarity == SUBSPACE:
            return intra_normalize(embeddings, self.num_subspaces)
        return normalize_vectors(embeddings) if self.similarity == "cosine" else embeddings

    def split(self, embeddings: Tensor) -> Tensor:
        """Normalised subvectors `[batch, num_subspaces, subvector_dim]` of embeddings."""
        return split_subvectors(self.normalize(embeddings), self.num_subspaces)

    def soften(self, subvectors: Tensor) -> Quantization:
        """Soft reconstructions of subvectors, as in training, and their most similar codewords.

        Both are subvector by subvector, `[batch, num_subspaces, ..]`, and from one table.
        """
        codebooks = self.trained_codebooks()
        nearness = build_lookup_tables(subvectors, codebooks)
        if self.similarity != "subspace":
            nearness = rank_by_distance(nearness, codebooks)
        soft = reconstruct_soft(assign_soft(nearness, self.alpha), codebooks)
        return Quantization(soft, assign_hard(nearness))

    def choose(self, subvectors: Tensor, level: int = 0) -> Quantization:
        """Nearest codewords of a level, and their positions: `[batch, num_subspaces, ..]`."""
        codebooks = self.decoded_codebooks(level)
        nearness = build_lookup_tables(subvectors, codebooks)
        # Between unit vectors the inner product ranks by distance already.
        if level or not self.unit_codewords:
            nearness = rank_by_distance(nearness, codebooks)
        codes = assign_hard(nearness)
        return Quantization(decode_codes(codes, codebooks), codes)

    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Quantization:
        subvectors = self.split(embeddings)
        if training or self.soft_codes:
            found = self.soften(subvectors)
            subvectors = found.reconstruction
        if not training:
            found = self.choose(subvectors)
        return self._join(found.reconstruction, found.codes)

    def decode(self, codes: Tensor) -> Tensor:
        return merge_subvectors(self._decode_levels(self._checked_codes(codes)))

    def lookup_tables(self, queries: Tensor) -> Tensor:
        queries = self.normalize(self._checked_embeddings(queries))
        subvectors = split_subvectors(queries, self.num_subspaces)
        tables = [
            build_lookup_tables(subvectors, self.decoded_codebooks(level))
            for level in range(self.num_levels)
        ]
        return self._score_products(ops.concatenate(tables, axis=1), queries)

    def squared_norms(self) -> Tensor:
        """What each position of a code adds to the squared length of its reconstruction, as scores
        take it: `[code_length, num_codewords]`."""
        return ops.sum(ops.square(self.decoded_codebooks()), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_subspaces": self.num_subspaces,
            "num_codewords": self.num_codewords,
            "alpha": self.alpha,
            "unit_codewords": self.unit_codewords,
            "soft_codes": self.soft_codes,
            "similarity": self.similarity,
            "codebooks_initializer": keras.initializers.serialize(self.codebooks_initializer),
        }

    def _variant(self) -> str:
        lengths = "" if self.unit_codewords else ":own lengths"
        return lengths if self.similarity == "subspace" else f"{lengths}:{self.similarity}"

    def _score_products(self, products: Tensor, queries: Tensor) -> Tensor:
        """Tables of scores from those of inner products, and the normalised queries."""
        rule = SIMILARITIES[self.similarity]
        if not rule.norm_weight:
            return products
        tables = rule.scale * products - rule.norm_weight * self.squared_norms()
        lengths = ops.sum(ops.square(queries), axis=-1)[:, None, None]
        first = tables[:, :1] + (rule.constant - rule.norm_weight * lengths)
        return ops.concatenate([first, tables[:, 1:]], axis=1)

    def _level_codebooks(self, level: int) -> Tensor:
        """Codewords as stored; there is one level."""
        self._require_built("codebooks")
        return ops.convert_to_tensor(self.codebooks)

    def _decode_levels(self, codes: Tensor) -> Tensor:
        """Sum over the levels of the codewords that `[batch, code_length]` codes name."""
        width = self.num_subspaces
        levels = range(self.num_levels)
        by_level = [codes[:, level * width : (level + 1) * width] for level in levels]
        return sum(decode_codes(by_level[level], self.decoded_codebooks(level)) for level in levels)

    def _join(self, reconstruction: Tensor, codes: Tensor) -> Quantization:
        return Quantization(merge_subvectors(reconstruction), ops.cast(codes, self.code_dtype))

    def _add_codebooks(
        self, embedding_dim: int | None, levels: tuple[int, ...], initializer: Any
    ) -> None:
        """Add the weight `[*levels, num_subspaces, num_codewords, subvector_dim]`."""
        if embedding_dim is None or embedding_dim % self.num_subspaces:
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={embedding_dim}, num_subspaces={self.num_subspaces}"
            )
        subvector_dim = embedding_dim // self.num_subspaces
        self.codebooks = self.add_weight(
            name="codebooks",
            shape=(*levels, self.num_subspaces, self.num_codewords, subvector_dim),
            initializer=initializer,
            autocast=False,
        )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: embedding_dim})
        self.built = True
