"""The ways to search from Python, the same for a searcher and for its saved folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpqn.items import ItemSpec

from ..interface.packing import pack_ids
from ..interface.search_result import SearchResult


class SearchMethods(ABC):
    """What can be searched with items, embeddings and ids.

    Attributes:
        items: What items are.
        image_shape: `(height, width, channels)` of an image or frame, `(dim,)` of a vector.
        id_type: "int64" or "string".
        embedding_dim: Length of the embeddings.
    """

    items: ItemSpec
    image_shape: Sequence[int]
    id_type: str
    embedding_dim: int

    def __call__(self, items: Sequence[Any], k: int | None = None) -> SearchResult:
        """Search with encoded images, clips of encoded frames, or vectors: what the network takes.

        Args:
            items: JPEG, PNG, GIF, WebP or BMP bytes, one string an image; of clips a sequence of
                such strings each, of any number of frames; of vectors numbers `[batch, dim]`, as
                the other model gives them.
            k: How many items to return, at most 10,000; the searcher's `top_k` if None.

        Raises:
            TypeError: `items` is a single string, or an item is of the wrong kind.
            tf.errors.InvalidArgumentError: An image cannot be decoded; a saved searcher raises
                `StatusError`.
        """
        packed = self.items.pack(items)
        if not self.items.has_pixels and packed.shape[1:] != tuple(self.image_shape):
            raise ValueError(
                f"vectors must have shape [batch, {self.image_shape[0]}]. Received: {packed.shape}"
            )
        inputs = {self.items.input_name: packed}
        if k is None:
            return self._search("search", **inputs)
        return self._search("search_k", **inputs, k=k)

    def search_by_embedding(self, embeddings: np.ndarray) -> SearchResult:
        """Search with the network's own embeddings `[batch, embedding_dim]`, as `embed` gives them.

        They may be longer or shorter where lengths do not count. Vectors of another model, of which
        the network makes its embeddings, go to the searcher itself.

        Raises:
            ValueError: They have another shape.
        """
        shape = np.shape(embeddings)
        if len(shape) != 2 or shape[1] != self.embedding_dim:
            raise ValueError(
                f"embeddings must have shape [batch, {self.embedding_dim}]. Received: {shape}"
            )
        return self._search("search_by_embedding", embeddings=np.asarray(embeddings, np.float32))

    def search_by_id(self, item_ids: Any) -> SearchResult:
        """Search with items of the collection `[batch]`; an item is not its own neighbour.

        Raises:
            TypeError: An id is not of the index's type.
            ValueError: An id does not fit int64.
            tf.errors.InvalidArgumentError: The collection has no item of an id; a saved searcher
                raises `StatusError`.
        """
        packed = pack_ids("item_ids", item_ids, self.id_type)
        return self._search("search_by_id", item_ids=packed)

    def _search(self, signature_name: str, **inputs: Any) -> SearchResult:
        return SearchResult.from_outputs(self.run(signature_name, inputs))

    @abstractmethod
    def run(self, signature_name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Run any signature on arrays by input name."""
