"""Settings that a run leaves open, chosen for its items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tfpqn.similarities import SUBSPACE

from .optimization_settings import FEWEST_EPOCHS, IMAGES_SEEN, MOST_EPOCHS

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet


def choose_settings(config: Any, items: ImageSet) -> dict[str, Any]:
    """Name of each setting that the items decide -> its value; see `RunConfig.for_items`.

    Args:
        config: A `RunConfig`.
        items: What the network is trained on.

    Raises:
        ValueError: The settings need training, and it needs labels.
    """
    is_fitted = _is_fitted(config, items)
    similarity = ("cosine" if items.items.has_pixels else "l2") if is_fitted else SUBSPACE
    images = len(items) * math.prod(items.item_shape) // math.prod(items.image_shape)
    has_classes = config.data.goes_by_labels(items) and items.labels.ndim == 1
    epochs = min(max(round(IMAGES_SEEN / images), FEWEST_EPOCHS), MOST_EPOCHS)
    return {
        "batch_size": config.data.fitting_batch(len(items)),
        "epochs": 0 if is_fitted else epochs,
        "classification_weight": float(has_classes),
        "max_shift": min(2, min(items.image_shape[:2]) // 16) if items.items.has_pixels else 0,
        "similarity": similarity,
    }


def _is_fitted(config: Any, items: ImageSet) -> bool:
    """Whether codebooks are fitted to the items as they are, for want of labels.

    Raises:
        ValueError: They need training, and it needs labels.
    """
    has_meaning = not items.items.has_pixels or config.model.weights or config.model.initial_run
    if config.model.is_fitted and (config.optimization.epochs or not has_meaning):
        raise ValueError(
            f"similarity={config.model.similarity!r} fits codebooks to vectors, or to what a "
            "backbone with weights makes of images, and trains nothing. Received: "
            f"epochs={config.optimization.epochs}, weights={config.model.weights!r}"
        )
    if config.model.is_fitted or config.data.views > 1 or items.has_labels:
        return config.model.is_fitted
    is_trained = config.model.similarity is not None or config.optimization.epochs
    if not items.items.has_pixels and is_trained:
        raise ValueError(
            "Training on vectors needs labels; without, leave epochs and similarity='subspace' "
            f"out, and codebooks are fitted. Received: {len(items)} items without a label, "
            f"epochs={config.optimization.epochs}"
        )
    if is_trained or not has_meaning:
        raise ValueError(
            "Training needs at least two labels (subfolders) with two readable items each; "
            "without labels it takes views=2, or weights of a trained backbone, of whose "
            f"embeddings codes are made. Received: {len(items)} items without a label"
        )
    return True
