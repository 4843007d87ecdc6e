"""Soft residual product quantization as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfpqn.layers.product_quantization import ProductQuantization
from tfpqn.layers.quantizer import Quantization, Quantizer, Tensor, require_at_least
from tfpqn.ops import (
    assign_beam,
    assign_beam_by_products,
    assign_hard,
    decode_codes,
    improve_in_turn,
)
from tfpqn.similarities import SIMILARITIES

# Beyond these, products of all codewords with one another take hundreds of megabytes.
MOST_CODEWORDS = 4096
# How often each level chooses anew after the beam.
TURNS = 2
# Chosen by trials on Fashion-MNIST: codes find more of the neighbours than with 0 or with 1.
ERROR_SHARE = 0.75


@keras.saving.register_keras_serializable(package="tfpqn")
class ResidualProductQuantization(ProductQuantization):
    """Product quantization in several levels, each of what the levels before it have left.

    Training is that of `ProductQuantization`, on the soft reconstruction by the first level. The
    other levels quantize what hard codes lose of this reconstruction: their codewords have any
    length, are chosen by distance, and add to the sum. So the more levels, the nearer comes a code
    to what training has ranked. An inner product with the sum is a sum of table entries as for any
    other quantizer, and the first levels alone are a valid shorter code (`prefix`). Positions of a
    code run level by level.

    The later levels have no gradient. `tfpqn.training.initialize_codebooks` sets them to k-means
    centres, and `tfpqn.training.settle_codebooks` once more after training; without that they are
    random.

    With `similarity` other than "subspace" all levels quantize the vector itself. The squared
    length of a sum of codewords is no sum over the levels, so with "l2" and "cosine" a code of
    several levels has one more position, the last. `norms [code_length, num_codewords]` holds what
    each position adds to the squared length of the item's reconstruction x plus `ERROR_SHARE` of
    the squared error that x has; the last position makes up for what the others miss. So a score
    of "l2" is about `-||q - x||^2 - ERROR_SHARE * ||x - item||^2`. With a share of 1 that is the
    expected distance of an item whose error has nothing to do with the query. A query near the item
    is nearer than that. This finds more of the neighbours than the distance from x.

    Args:
        num_levels: Number of levels. One level equals `ProductQuantization`.
        num_subspaces, num_codewords: Of each level, as in `ProductQuantization`. A code takes
            `num_levels * num_subspaces * log2(num_codewords)` bits.
        alpha, unit_codewords, soft_codes: As in `ProductQuantization`, of the first level.
        similarity: As in `ProductQuantization`.
        beam_size: Sums of codewords that encoding follows from level to level. With 1 each level's
            codeword is the nearest to what the levels before it have left. More bring codes nearer
            to what they stand for, and take `beam_size` times as long; training is the same. The
            first levels of a code are then a valid shorter code still, but not the one that
            `prefix` would give the item. One level has nothing to follow. Codes with norms then
            choose each level's codeword anew, with the others as they are.
        codebooks_initializer: Initializer of the codebooks, random directions by default; the
            values of level t are scaled to codewords of length about `0.5 ** t`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments, result and errors are those of `ProductQuantization`.

    Example:

    >>> layer = tfpqn.layers.ResidualProductQuantization(2, num_subspaces=2, num_codewords=64)
    >>> embeddings = np.random.normal(size=(8, 32))
    >>> codes = layer.encode(embeddings)
    >>> tuple(codes.shape)
    (8, 4)
    >>> np.array_equal(layer.prefix(1).encode(embeddings), codes[:, :2])
    True

    Reference:
        Yu, Meng, Fang, Jin, Yuan: "Product Quantization Network for Fast Visual Search", IJCV 2020
        (RPQN). The inner structure is this package's reading: see docs/method.md.
    """

    def __init__(
        self,
        num_levels: int = 2,
        num_subspaces: int = 2,
        num_codewords: int = 256,
        alpha: float = 5.0,
        *,
        unit_codewords: bool | None = None,
        soft_codes: bool = False,
        similarity: str = "subspace",
        beam_size: int = 1,
        codebooks_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        require_at_least("num_levels", num_levels, 1)
        require_at_least("beam_size", beam_size, 1)
        super().__init__(
            num_subspaces,
            num_codewords,
            alpha,
            unit_codewords=unit_codewords,
            soft_codes=soft_codes,
            similarity=similarity,
            codebooks_initializer=codebooks_initializer,
            **kwargs,
        )
        self.num_levels = num_levels
        self.beam_size = beam_size

    @property
    def has_norms(self) -> bool:  # type: ignore[override]
        return self.num_levels > 1 and SIMILARITIES[self.similarity].norm_weight > 0

    @property
    def code_length(self) -> int:  # type: ignore[override]
        return self.num_levels * self.num_subspaces + self.has_norms

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._add_codebooks(input_shape[-1], (self.num_levels,), self._initialize)
        if self.has_norms:
            self.norms = self.add_weight(
                name="norms",
                shape=(self.code_length, self.num_codewords),
                initializer="zeros",
                trainable=False,
                autocast=False,
            )

    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Quantization:
        # Training sees the first level alone, whatever the codes are.
        if training or self.num_levels == 1:
            return super().quantize_embeddings(embeddings, training)
        subvectors = self.split(embeddings)
        targets = self.level_targets(subvectors)
        if self.beam_size > 1 or self.similarity != "subspace":
            codes = self.choose_by_beam(targets)
        else:
            codes = self._choose_in_turn(subvectors, targets)
        joined = ops.concatenate(codes, axis=1)
        reconstruction = self._decode_levels(joined)
        if self.has_norms:
            last = self._choose_norms(measure_norms(subvectors, reconstruction), joined)
            joined = ops.concatenate([joined, last], axis=1)
        return self._join(reconstruction, joined)

    def level_targets(self, subvectors: Tensor) -> Tensor:
        """What the codewords of all levels add up to, `[batch, num_subspaces, subvector_dim]`."""
        if self.similarity == "subspace":
            return self.soften(subvectors).reconstruction
        return subvectors

    def choose_by_beam(self, targets: Tensor) -> list[Tensor]:
        """Codes `[batch, num_subspaces]` of each level whose sum is near to targets.

        Args:
            targets: `[batch, num_subspaces, subvector_dim]`.
        """
        codebooks = [self.decoded_codebooks(level) for level in range(self.num_levels)]
        # The other is for long subvectors, but rounds otherwise than what trained networks went by.
        is_long = self.similarity != "subspace" and self.num_codewords <= MOST_CODEWORDS
        assign = assign_beam_by_products if is_long else assign_beam
        codes = assign(targets, codebooks, self.beam_size)
        if self.has_norms:
            codes = improve_in_turn(targets, codebooks, codes, TURNS)
        return codes

    def squared_norms(self) -> Tensor:
        return ops.convert_to_tensor(self.norms) if self.has_norms else super().squared_norms()

    def prefix(self, num_levels: int) -> Quantizer:
        shorter = super().prefix(num_levels)
        if self.has_norms:
            if num_levels < self.num_levels:
                raise ValueError(
                    f"num_levels must be {self.num_levels}, all levels, with similarity="
                    f"{self.similarity!r}: the norms in the codes are those of the whole sums. "
                    f"Received: num_levels={num_levels}"
                )
            shorter.norms.assign(self.norms)
        return shorter

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_levels": self.num_levels,
            "beam_size": self.beam_size,
        }

    def _choose_in_turn(self, subvectors: Tensor, targets: Tensor) -> list[Tensor]:
        """Codes of each level, without regard to those after it: the first as with one level."""
        hard, codes = self.choose(targets if self.soft_codes else subvectors)
        chosen, left = [codes], targets - hard
        for level in range(1, self.num_levels):
            hard, codes = self.choose(left, level)
            chosen.append(codes)
            left = left - hard
        return chosen

    def require_usable_codebooks(self) -> None:
        super().require_usable_codebooks()
        if self.has_norms and not ops.convert_to_numpy(self.norms).any():
            raise ValueError(
                "The norms of the quantizer must be fitted: call tfpqn.training.fit_vectors. "
                "Received: zeros alone"
            )

    def _choose_norms(self, norms: Tensor, codes: Tensor) -> Tensor:
        """Last positions `[batch, 1]` of codes: what brings their sum of norms nearest."""
        left = norms - ops.sum(decode_codes(codes, self.norms[:-1, :, None]), axis=(1, 2))
        return assign_hard(-ops.abs(left[:, None] - self.norms[-1]))[:, None]

    def _score_products(self, products: Tensor, queries: Tensor) -> Tensor:
        if self.has_norms:
            products = ops.pad(products, ((0, 0), (0, 1), (0, 0)))
        return super()._score_products(products, queries)

    def _variant(self) -> str:
        # A beam only chooses better among the codes there are: codes by any are of one kind.
        is_soft = self.num_levels > 1 and self.similarity == "subspace"
        return super()._variant() + (":reconstructions" if is_soft else "")

    def _level_codebooks(self, level: int) -> Tensor:
        self._require_built("codebooks")
        return ops.convert_to_tensor(self.codebooks)[level]

    def _initialize(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        scales = 0.5 ** ops.arange(self.num_levels, dtype=dtype) / shape[-1] ** 0.5
        return self.codebooks_initializer(shape, dtype=dtype) * scales[:, None, None, None]


def measure_norms(subvectors: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared lengths of reconstructions, and a share of their squared errors: `[batch]`.

    Args:
        subvectors: What was quantized, `[batch, num_subspaces, subvector_dim]`.
        reconstructions: The same shape.
    """
    errors = ops.square(subvectors - reconstructions)
    return ops.sum(ops.square(reconstructions) + ERROR_SHARE * errors, axis=(1, 2))
