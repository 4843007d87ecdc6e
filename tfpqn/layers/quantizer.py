"""What every quantizer of the package can do."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.items import IMAGES, ItemSpec
from tfpqn.ops import code_dtype

Tensor = Any


class Quantization(NamedTuple):
    """Both results of quantizing a batch, computed from one table.

    Attributes:
        reconstruction: `[batch, embedding_dim]`, soft in training and hard at inference.
        codes: `[batch, code_length]` at inference. In training `[batch, code_length / num_levels]`:
            the most similar codewords of the first level, which is the one that trains.
    """

    reconstruction: Tensor
    codes: Tensor


class Quantizer(keras.layers.Layer):
    """Base of the quantizers: additive over code positions.

    A code is `code_length` integers below `num_codewords`, and for any query there is one table
    `[code_length, num_codewords]` such that an item's score is the sum of the entries its code
    names. Index, search, export and evaluation are written against this alone.

    A subclass sets `code_length` and `num_codewords`, adds the weight `codebooks` in `build`, and
    implements `normalize`, `quantize_embeddings`, `decode` and `lookup_tables`. One that codes
    something else than images names it as `items`. `tfpqn.codebooks` fits the codebooks.

    The arithmetic runs in the layer's variable dtype (float32 under mixed precision): half
    precision would merge neighbouring codewords. Only the result is cast to the compute dtype.
    """

    code_length: int
    num_codewords: int
    codebooks: Any
    num_levels: int = 1
    items: ItemSpec = IMAGES
    similarity: str = "subspace"
    _levels_argument = "num_levels"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    @property
    def code_dtype(self) -> str:
        """Dtype name of the codes: the smallest that holds `num_codewords` values."""
        return code_dtype(self.num_codewords)

    @property
    def bits_per_code(self) -> float:
        """Information in one code: `code_length * log2(num_codewords)` bits."""
        return self.code_length * float(np.log2(self.num_codewords))

    @property
    def embedding_dim(self) -> int:
        """Length of the embeddings that this layer was built for."""
        raise NotImplementedError

    def pool_frames(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features of items as embeddings are made of them; those of images stay as they are."""
        return features

    def pooled_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of what `pool_frames` gives."""
        return features_shape

    def normalize(self, embeddings: Tensor) -> Tensor:
        """The form of the embeddings that search compares, `[batch, embedding_dim]`."""
        raise NotImplementedError

    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Quantization:
        """Reconstruction (soft if `training`) and hard codes of `[batch, embedding_dim]`.

        Not named `quantize`: in Keras that is a layer's int8 conversion of its weights.
        """
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions `[batch, embedding_dim]` of codes `[batch, code_length]`."""
        raise NotImplementedError

    def lookup_tables(self, queries: Tensor) -> Tensor:
        """Tables `[queries, code_length, num_codewords]` of `[queries, embedding_dim]`."""
        raise NotImplementedError

    def product_quantizer(self) -> Any:
        """The product quantizer that holds the codebooks: itself, or that of a clip's segments."""
        # No property: Keras saves a layer's attributes, and would save this one twice.
        return self

    def product_embeddings(self, embeddings: Tensor) -> Tensor:
        """What `product_quantizer()` quantizes of a batch, `[items, ..]`; checked."""
        return self._checked_embeddings(embeddings)

    def prefix(self, num_levels: int) -> Quantizer:
        """The quantizer of the first levels alone, with a copy of their codebooks.

        Levels add, so the first `code_length * num_levels / self.num_levels` positions of a code
        are a valid shorter code: a code of this quantizer.

        Args:
            num_levels: In `1 .. self.num_levels`.

        Raises:
            RuntimeError: The layer is not built yet.
            ValueError: `num_levels` is out of range.
        """
        self._require_built("prefix")
        is_number = isinstance(num_levels, (int, np.integer)) and not isinstance(num_levels, bool)
        if not is_number or not 1 <= num_levels <= self.num_levels:
            raise ValueError(
                f"num_levels must lie in 1 .. {self.num_levels}, the levels of the quantizer. "
                f"Received: num_levels={num_levels!r}"
            )
        config, codebooks = self.get_config(), ops.convert_to_numpy(self.codebooks)
        if num_levels < self.num_levels:
            config[self._levels_argument] = int(num_levels)
            codebooks = codebooks[:num_levels]
        shorter = type(self).from_config(config)
        shorter.build((None, self.embedding_dim))
        shorter.codebooks.assign(codebooks)
        return shorter

    def call(self, embeddings: Tensor, training: bool = False) -> Tensor:
        return ops.cast(
            self.quantize_embeddings(embeddings, training).reconstruction, self.compute_dtype
        )

    def encode(self, embeddings: Tensor) -> Tensor:
        """Hard codes of a batch of embeddings.

        Args:
            embeddings: Float tensor or array `[batch, embedding_dim]`, normalised or not.

        Returns:
            Integer tensor `[batch, code_length]` of dtype `code_dtype`.

        Raises:
            ValueError: Wrong shape, or (outside a traced function) NaN or infinite values.
        """
        return self.quantize_embeddings(self._checked_embeddings(embeddings)).codes

    def codebook_fingerprint(self) -> str:
        """Hex digest of the codebooks' bytes and of what gives them meaning.

        Codes can be decoded only by codebooks of the same fingerprint. The weights as stored are
        hashed, not their normalised form, whose last bits differ between machines.

        Raises:
            RuntimeError: The layer is not built yet.
        """
        self._require_built("codebook_fingerprint")
        shape = tuple(self.codebooks.shape)
        head = f"{type(self).__name__}:{self.code_length}{self._variant()}:{shape}:"
        digest = hashlib.sha256(head.encode())
        for weight in self.weights:
            values = np.ascontiguousarray(ops.convert_to_numpy(weight), dtype="<f4")
            digest.update(values.tobytes())
        return digest.hexdigest()

    def require_usable_codebooks(self) -> None:
        """Raises ValueError if the codebooks hold NaN or infinity, or nothing but zeros."""
        self._require_built("require_usable_codebooks")
        require_usable(ops.convert_to_numpy(self.codebooks))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def _variant(self) -> str:
        """What tells quantizers of one class with the same codebooks apart."""
        return ""

    def _require_built(self, method: str) -> None:
        if not self.built:
            raise RuntimeError(
                f"{type(self).__name__}.{method} needs the codebooks. Expected the layer to be "
                "built: call it, or `build((None, embedding_dim))`, first."
            )

    def _checked_embeddings(self, embeddings: Tensor) -> Tensor:
        """A tensor of the layer's own dtype, of the right width and, where visible, finite."""
        embeddings = ops.cast(ops.convert_to_tensor(embeddings), self.variable_dtype)
        if not self.built:
            self.build(tuple(embeddings.shape))
        shape = tuple(embeddings.shape)
        if len(shape) != 2 or shape[1] != self.embedding_dim:
            raise ValueError(
                f"embeddings must have shape [batch, {self.embedding_dim}]. Received: {shape}"
            )
        values = _concrete_values(embeddings)
        if values is not None and not np.isfinite(values).all():
            rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
            raise ValueError(
                "embeddings must be finite. Received NaN or infinity in "
                f"{len(rows)} of {len(values)} rows, the first at row {rows[0]}"
            )
        return embeddings

    def _checked_codes(self, codes: Tensor) -> Tensor:
        self._require_built("decode")
        codes = ops.convert_to_tensor(codes)
        shape = tuple(codes.shape)
        if len(shape) != 2 or shape[1] != self.code_length:
            raise ValueError(
                f"codes must have shape [batch, {self.code_length}]. Received: {shape}"
            )
        values = _concrete_values(codes)
        if values is not None and values.size:
            if values.min() < 0 or values.max() >= self.num_codewords:
                raise ValueError(
                    f"codes must lie in 0 .. {self.num_codewords - 1}. "
                    f"Received: {values.min()} .. {values.max()}"
                )
        return codes


def _concrete_values(tensor: Tensor) -> np.ndarray | None:
    """The tensor's values, or None while a backend is tracing and there are none."""
    try:
        return np.asarray(tensor)
    except (TypeError, ValueError, NotImplementedError, RuntimeError):
        return None


def require_at_least(name: str, value: Any, minimum: int) -> None:
    """Raises ValueError unless `value` is an integer of at least `minimum`."""
    if not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(
            f"{name} must be an integer of at least {minimum}. Received: {name}={value}"
        )


def require_usable(codebooks: np.ndarray) -> None:
    """Raises ValueError if no search can tell items apart by these codebooks, in any shape."""
    is_finite = np.isfinite(codebooks).all()
    if not is_finite or not codebooks.any():
        raise ValueError(
            "The codebooks of the quantizer must be finite and not all zero, or no item could be "
            f"found by its code. Received: {'zeros alone' if is_finite else 'NaN or infinity'}; "
            "train the network anew"
        )
