"""TensorFlow, imported when it is first used: what trains on another backend does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf
else:

    class _LazyTensorFlow:
        def __getattr__(self, name: str) -> Any:
            try:
                import tensorflow
            except ImportError as error:
                raise ImportError(
                    "TensorFlow must be installed to read images and videos from files and to "
                    "export; only what is held in memory is trained and evaluated without it. "
                    f"Received: {error}"
                ) from error
            return getattr(tensorflow, name)

    tf = _LazyTensorFlow()

__all__ = ["tf"]
