"""Soft temporal product quantization of clips as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfpqn.items import CLIPS
from tfpqn.layers.quantizer import Quantization, Quantizer, Tensor, require_at_least
from tfpqn.layers.residual_product_quantization import ResidualProductQuantization
from tfpqn.ops import average_segments


@keras.saving.register_keras_serializable(package="tfpqn")
class TemporalProductQuantization(Quantizer):
    """Product quantization of a clip's segments: one code of fixed length for any number of frames.

    A clip's frames are averaged inside each of `num_segments` equal stretches of its time. The
    averages, one after another, are the clip's embedding, and each is quantized with codebooks of
    its own. So the order of events counts, which an average over the whole clip forgets. One
    segment is average pooling and `ProductQuantization`.

    It takes clips `[batch, num_frames, dim]`, and clips that are pooled already,
    `[batch, embedding_dim]` with `embedding_dim = segments * dim`. Positions of a code run level by
    level, in each level segment by segment.

    Args:
        num_segments: Number of segments, or several numbers for a temporal pyramid: `(1, 2, 4)`
            takes the whole clip, its halves and its quarters, 7 segments in all.
        num_subspaces: Number of slices of each segment, each with a codebook of its own. It must
            divide `dim`.
        num_codewords: Size of each codebook, at least 2.
        levels: Number of residual levels, see `ResidualProductQuantization`.
        alpha, unit_codewords, soft_codes, codebooks_initializer: As in
            `ResidualProductQuantization`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        embeddings: Float tensor `[batch, num_frames, dim]`, `num_frames` at least the largest
            number of segments; or `[batch, embedding_dim]`, pooled already.
        training: Whether to reconstruct softly (True) or by the chosen codewords (False).
        mask: Boolean `[batch, num_frames]`, True where there is a frame; None where all are. A clip
            that is left fewer frames than segments lets neighbouring segments share them; one that
            is left none is coded like the zero embedding.

    Returns:
        Reconstructions `[batch, embedding_dim]`.

    Raises:
        ValueError: An argument is out of range, or there are fewer frames than segments.

    Example:

    >>> layer = tfpqn.layers.TemporalProductQuantization(2, num_subspaces=2, num_codewords=64)
    >>> tuple(layer.encode(np.random.normal(size=(8, 16, 32))).shape)
    (8, 4)
    >>> tuple(layer.lookup_tables(np.random.normal(size=(1, 20, 32))).shape)
    (1, 4, 64)

    Reference:
        Yu, Meng, Fang, Jin, Yuan: "Product Quantization Network for Fast Visual Search", IJCV 2020
        (TPQN). The segments are this package's reading: see docs/method.md.
    """

    items = CLIPS
    _levels_argument = "levels"

    def __init__(
        self,
        num_segments: int | Sequence[int] = 2,
        num_subspaces: int = 2,
        num_codewords: int = 256,
        levels: int = 1,
        alpha: float = 5.0,
        *,
        unit_codewords: bool | None = None,
        soft_codes: bool = False,
        codebooks_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.pyramid = _read_pyramid(num_segments)
        require_at_least("num_subspaces", num_subspaces, 1)
        require_at_least("levels", levels, 1)
        self.num_segments = num_segments
        self.num_subspaces = num_subspaces
        self.num_codewords = num_codewords
        self.levels = self.num_levels = levels
        self.alpha = alpha
        # The segments' subspaces stand side by side.
        self.quantizer = ResidualProductQuantization(
            levels,
            num_subspaces * self.total_segments,
            num_codewords,
            alpha,
            unit_codewords=unit_codewords,
            soft_codes=soft_codes,
            codebooks_initializer=codebooks_initializer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="quantizer",
        )

    @property
    def total_segments(self) -> int:
        """Number of segments, those of all stages of a pyramid together."""
        return sum(self.pyramid)

    @property
    def code_length(self) -> int:  # type: ignore[override]
        return self.levels * self.total_segments * self.num_subspaces

    @property
    def codebooks(self) -> Any:
        return self.quantizer.codebooks

    @property
    def embedding_dim(self) -> int:
        self._require_built("embedding_dim")
        return self.quantizer.embedding_dim

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        embedding_dim = self._pooled_dim(tuple(input_shape))
        width = self.total_segments * self.num_subspaces
        if embedding_dim is None or embedding_dim % width:
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces in each segment. Received: "
                f"embedding_dim={embedding_dim}, num_subspaces={self.num_subspaces}, "
                f"{self.total_segments} segments"
            )
        self.quantizer.build((None, embedding_dim))
        self.built = True

    def pool_frames(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Segments of clips, those of all stages of a pyramid one after another.

        Args:
            features: Float tensor `[batch, num_frames, dim]`.
            mask: Boolean `[batch, num_frames]`, or None.

        Returns:
            `[batch, total_segments, dim]`.

        Raises:
            ValueError: There are fewer frames than segments, or the mask has another shape.
        """
        self.pooled_shape(tuple(features.shape))
        stages = [average_segments(features, number, mask) for number in self.pyramid]
        return ops.concatenate(stages, axis=1)

    def pooled_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, num_frames, dim = features_shape
        if num_frames is not None and num_frames < max(self.pyramid):
            raise ValueError(
                f"A clip must have at least {max(self.pyramid)} frames, one for each segment. "
                f"Received: num_frames={num_frames}"
            )
        return (batch, self.total_segments, dim)

    def normalize(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.normalize(self._pool(embeddings, mask))

    def quantize_embeddings(
        self, embeddings: Tensor, training: bool = False, mask: Tensor | None = None
    ) -> Quantization:
        return self.quantizer.quantize_embeddings(self._pool(embeddings, mask), training)

    def call(
        self, embeddings: Tensor, training: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        quantization = self.quantize_embeddings(embeddings, training, mask)
        return ops.cast(quantization.reconstruction, self.compute_dtype)

    def encode(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantize_embeddings(self._checked_embeddings(embeddings, mask)).codes

    def decoded_codebooks(self, level: int = 0) -> Tensor:
        """Codewords of a level as codes decode to them."""
        return self.quantizer.decoded_codebooks(level)

    def decode(self, codes: Tensor) -> Tensor:
        self._require_built("decode")
        return self.quantizer.decode(codes)

    def lookup_tables(self, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.lookup_tables(self.product_embeddings(queries, mask))

    def product_quantizer(self) -> ResidualProductQuantization:
        return self.quantizer

    def product_embeddings(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._checked_embeddings(embeddings, mask)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        """None: what comes out has no time axis any more."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self._pooled_dim(tuple(input_shape)))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_segments": self.num_segments,
            "num_subspaces": self.num_subspaces,
            "num_codewords": self.num_codewords,
            "levels": self.levels,
            "alpha": self.alpha,
            "unit_codewords": self.quantizer.unit_codewords,
            "soft_codes": self.quantizer.soft_codes,
            "codebooks_initializer": keras.initializers.serialize(
                self.quantizer.codebooks_initializer
            ),
        }

    def _variant(self) -> str:
        # Segments of (1, 2, 4) and of 7 have codebooks of one shape.
        return f":{self.pyramid}{self.quantizer._variant()}"

    def _pooled_dim(self, shape: tuple[int | None, ...]) -> int | None:
        if len(shape) == 3:
            dim = self.pooled_shape(shape)[-1]
            return None if dim is None else self.total_segments * dim
        if len(shape) != 2:
            raise ValueError(
                "embeddings must be clips [batch, num_frames, dim], or [batch, embedding_dim]. "
                f"Received: {shape}"
            )
        return shape[1]

    def _pool(self, embeddings: Tensor, mask: Tensor | None) -> Tensor:
        """Clip embeddings `[batch, embedding_dim]` of either form, in the layer's own dtype."""
        shape, expected = tuple(embeddings.shape), self.embedding_dim
        frame_dim = expected // self.total_segments
        if len(shape) not in (2, 3) or shape[-1] != (expected if len(shape) == 2 else frame_dim):
            raise ValueError(
                f"embeddings: expected clips [batch, num_frames, {frame_dim}], or pooled clips "
                f"[batch, {expected}]. Received: {shape}"
            )
        embeddings = ops.cast(embeddings, self.variable_dtype)
        if len(shape) == 2:
            return embeddings
        return ops.reshape(self.pool_frames(embeddings, mask), (-1, expected))

    def _checked_embeddings(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pooled clips that are, where visible, finite."""
        clips = ops.convert_to_tensor(embeddings)
        if not self.built:
            self.build(tuple(clips.shape))
        return super()._checked_embeddings(self._pool(clips, mask))


def _read_pyramid(num_segments: int | Sequence[int]) -> tuple[int, ...]:
    stages = tuple(num_segments) if isinstance(num_segments, Sequence) else (num_segments,)
    if not stages:
        raise ValueError("num_segments must hold at least one number. Received: num_segments=()")
    for stage in stages:
        require_at_least("num_segments", stage, 1)
    return stages
