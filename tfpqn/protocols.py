"""What the rest of the package asks of a network and of a quantizer, for type checkers.

`tfpqn.models.ProductQuantizationNetwork` and the layers of `tfpqn.layers` satisfy them. Keras has
no types, so mypy takes its subclasses for anything; against these it checks every use.
"""

from __future__ import annotations

from typing import Any, Protocol

from tfpqn.items import ItemSpec

Tensor = Any


class QuantizerLike(Protocol):
    """A quantizer as codebooks, index, search and evaluation use it; see `tfpqn.layers`."""

    code_length: int
    num_codewords: int
    num_levels: int
    num_subspaces: int
    codebooks: Any
    similarity: str
    trainable: bool
    built: bool
    variables: Any

    @property
    def bits_per_code(self) -> float: ...
    @property
    def embedding_dim(self) -> int: ...
    def normalize(self, embeddings: Tensor) -> Tensor: ...
    def encode(self, embeddings: Tensor) -> Tensor: ...
    def decode(self, codes: Tensor) -> Tensor: ...
    def lookup_tables(self, queries: Tensor) -> Tensor: ...
    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Any: ...
    def product_quantizer(self) -> Any: ...
    def product_embeddings(self, embeddings: Tensor) -> Tensor: ...
    def prefix(self, num_levels: int) -> Any: ...
    def squared_norms(self) -> Tensor: ...
    def codebook_fingerprint(self) -> str: ...
    def require_usable_codebooks(self) -> None: ...


class NetworkLike(Protocol):
    """A network as codebooks, index, export and training use it; see `tfpqn.models`."""

    quantizer: QuantizerLike
    backbone: Any
    embedding: Any
    optimizer: Any
    num_classes: int | None
    classifier: Any
    resize: str
    stop_training: bool
    built: bool
    compiled: bool
    trainable: bool
    variables: Any

    @property
    def items(self) -> ItemSpec: ...
    @property
    def rotation(self) -> Any: ...
    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def num_frames(self) -> int | None: ...
    @property
    def folds_frames(self) -> bool: ...
    def require_item_shape(self, item_shape: tuple[int, ...]) -> None: ...
    def embed(self, images: Tensor, training: bool = False) -> Tensor: ...
    def encode(self, images: Tensor) -> Tensor: ...
    def predict_on_batch(self, x: Any) -> dict[str, Any]: ...
