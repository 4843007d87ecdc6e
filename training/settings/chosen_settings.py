"""Settings that a run leaves open, chosen for its items."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfpqn._text import counted
from tfpqn.similarities import SUBSPACE

from .code_settings import DEFAULT_MODEL
from .data_settings import UNAUGMENTED
from .optimization_settings import FEWEST_EPOCHS, IMAGES_SEEN, MOST_EPOCHS
from .setting import name_of

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet

# Settings that make features of pixels.
OF_FEATURES = (
    *("image_size", "resize", "weights", "backbone", "normalization", "precision", "mirror"),
)
# Settings that have a part where codebooks are fitted and nothing is trained; to leave augmentation
# out agrees with that.
OF_FITS = (
    *("protocol", "images", "videos", "vectors", "labels", "label_column", "num_frames"),
    *("model", "bits", "similarity", "rotation", "num_levels", "num_subspaces", "num_segments"),
    *("beam_size", "whiten", "scale_features", "augment", "epochs", "earlier_epochs", "seed"),
)


def choose_settings(config: Any, items: ImageSet) -> dict[str, Any]:
    """Name of each setting that the items decide -> its value; see `RunConfig.for_items`.

    Args:
        config: A `RunConfig`.
        items: What the network is trained on.

    Raises:
        ValueError: The settings need training, and it needs labels; or a setting that is not left
            at its default has no part in what is done.
    """
    is_fitted = _is_fitted(config, items)
    similarity = ("cosine" if items.items.has_pixels else "l2") if is_fitted else SUBSPACE
    per_item = math.prod(items.item_shape) // math.prod(items.image_shape)
    images = len(items) * (sum(config.model.num_segments) if config.model.motion else per_item)
    has_classes = config.data.goes_by_labels(items) and items.labels.ndim == 1
    epochs = min(max(round(IMAGES_SEEN / images), FEWEST_EPOCHS), MOST_EPOCHS)
    has_levels = is_fitted and not items.items.has_pixels and config.model.can_have_levels
    chosen = {
        "batch_size": config.data.fitting_batch(len(items)),
        "epochs": 0 if is_fitted else epochs,
        "classification_weight": float(has_classes),
        "max_shift": min(2, min(items.image_shape[:2]) // 16) if items.items.has_pixels else 0,
        "similarity": similarity,
        # Levels find the most neighbours of vectors as they are: see docs/benchmarks.md.
        "model": "rpqn" if has_levels else DEFAULT_MODEL,
    }
    _require_used(config, chosen, items.items.has_pixels, is_fitted)
    return chosen


def _require_used(config: Any, chosen: dict[str, Any], has_pixels: bool, is_fitted: bool) -> None:
    """Refuse settings that would be silently without effect."""
    if not has_pixels and (given := _given(config, chosen, (*OF_FEATURES, *UNAUGMENTED))):
        raise ValueError(
            f"Vectors have no pixels and no backbone: leave out the settings of these. "
            f"Received: {given}"
        )
    if not config.data.labels and (given := _given(config, chosen, ("label_column",))):
        raise ValueError(
            f"label_column is a column of a table of labels: give labels. Received: {given}"
        )
    used = (*OF_FITS, *(("initial_run", *OF_FEATURES) if has_pixels else ()))
    others = [name for name in config.flat() if name not in used]
    if is_fitted and (given := _given(config, chosen, others)):
        raise ValueError(
            "Codebooks are fitted to items as they are, and nothing is trained: leave out the "
            "settings of training, or give labels and no similarity. "
            f"Received: {given}"
        )


def _given(config: Any, chosen: dict[str, Any], names: Iterable[str]) -> str:
    """Those of the settings that somebody has set to other values than they would have had."""
    values = config.flat()
    parts = (config.data, config.model, config.loss, config.optimization)
    defaults = {name_of(field): field.default for p in parts for field in dataclasses.fields(p)}
    given = []
    for name in names:
        value = values[name]
        if value in (defaults.get(name, value), chosen.get(name)):
            continue
        # What is left open may have been settled by other settings; what these need was given.
        with contextlib.suppress(ValueError):
            if value == config.replace(**{name: defaults[name]}).flat()[name]:
                continue
        given.append(f"{name}={value!r}")
    return ", ".join(given)


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
            f"out, and codebooks are fitted. Received: {counted(len(items), 'items')} without "
            f"labels that differ, epochs={config.optimization.epochs}"
        )
    if is_trained or not has_meaning:
        raise ValueError(
            "Training needs at least two labels (subfolders) with two readable items each; "
            "without labels it takes views=2, or weights of a trained backbone, of whose "
            f"embeddings codes are made. Received: {counted(len(items), 'items')} without labels "
            "that differ"
        )
    return True
