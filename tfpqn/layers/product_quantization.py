"""Soft product quantization as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.layers.codebooks import Cluster, fit_codebook
from tfpqn.layers.quantizer import Quantization, Tensor, require_alpha
from tfpqn.layers.subspace_quantizer import SubspaceQuantizer
from tfpqn.ops import (
    build_lookup_tables,
    decode_codes,
    merge_subvectors,
    normalize_vectors,
    split_subvectors,
)


@keras.saving.register_keras_serializable(package="tfpqn")
class ProductQuantization(SubspaceQuantizer):
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
        unit_codewords: Whether codes decode to codewords of unit length, as in the paper. If not,
            to codewords as long as they are, which tells how sure an item is of them; then the
            nearest codeword is chosen, as in plain product quantization. Training goes by the
            directions alone; `fit_codebooks` before it and `settle_codebooks` after it set the
            lengths.
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

    >>> layer = ProductQuantization(num_subspaces=4, num_codewords=64)
    >>> codes = layer.encode(np.random.normal(size=(8, 32)))       # uint8 [8, 4]
    >>> tables = layer.lookup_tables(np.random.normal(size=(2, 32)))  # [2, 4, 64]

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018.
    """

    def __init__(
        self,
        num_subspaces: int = 4,
        num_codewords: int = 256,
        alpha: float = 5.0,
        *,
        unit_codewords: bool = True,
        codebooks_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_subspaces, num_codewords, unit_codewords, codebooks_initializer, **kwargs
        )
        require_alpha(alpha)
        self.alpha = alpha

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._add_codebooks(input_shape[-1], (), self.codebooks_initializer)

    def unit_codebooks(self) -> Tensor:
        """Codewords of unit length, `[num_subspaces, num_codewords, subvector_dim]`."""
        self._require_built("unit_codebooks")
        return normalize_vectors(ops.convert_to_tensor(self.codebooks))

    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Quantization:
        subvectors = split_subvectors(self.normalize(embeddings), self.num_subspaces)
        coded = self._code_first_level(subvectors)
        reconstruction = merge_subvectors(
            self._soften_first_level(subvectors) if training else coded.reconstruction
        )
        return Quantization(
            reconstruction, ops.cast(coded.codes, self.code_dtype), reconstruction[:, None]
        )

    def decode(self, codes: Tensor) -> Tensor:
        codes = self._checked_codes(codes)
        return merge_subvectors(decode_codes(codes, self._decoded_first_codebooks()))

    def lookup_tables(self, queries: Tensor) -> Tensor:
        queries = self.normalize(self._checked_embeddings(queries))
        subvectors = split_subvectors(queries, self.num_subspaces)
        return build_lookup_tables(subvectors, self._decoded_first_codebooks())

    def fit_codebooks(self, embeddings: np.ndarray, cluster: Cluster) -> None:
        subvectors = self._numpy_subvectors(embeddings)
        codebooks = np.array(ops.convert_to_numpy(self.codebooks))
        for subspace, codebook in enumerate(codebooks):
            fit_codebook(codebook, subvectors[:, subspace], cluster, needs_direction=True)
        if self.unit_codewords:
            codebooks = ops.convert_to_numpy(normalize_vectors(codebooks))
        self.codebooks.assign(codebooks)

    def revive_codewords(self, embeddings: np.ndarray, rng: np.random.Generator) -> int:
        subvectors = self._numpy_subvectors(embeddings)
        codebooks = np.array(ops.convert_to_numpy(self.codebooks))
        num_revived = self._revive_first_level(codebooks, subvectors, rng)
        if num_revived:
            self.codebooks.assign(codebooks)
        return num_revived

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}

    @property
    def _first_alpha(self) -> float:
        return self.alpha

    def _first_codebooks(self) -> Tensor:
        self._require_built("codebooks")
        return ops.convert_to_tensor(self.codebooks)
