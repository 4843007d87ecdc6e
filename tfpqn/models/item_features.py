"""What a backbone makes of a batch of items, and what an embedding is made of."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfpqn.models.backbones import BATCH_NORM_MOMENTUM

Tensor = Any
Shape = tuple[int | None, ...]

# Rank of a batch of images, which a backbone takes unless it says otherwise.
IMAGES_RANK = 4


class ItemFeatures:
    """Features of a batch of items, in the form that a network's embedding is made of.

    Those of images are what the backbone gives, vectors or maps. Those of clips are averaged over
    each segment, `[batch, total_segments, num_features]`: the embedding is linear but for its
    centring, so it is applied to the few averages instead of to all frames; and the centre of each
    segment is taken away, which all clips share.

    Args:
        backbone: Layer or model from images, or from whole clips, to features.
        quantizer: The network's quantizer.

    Attributes:
        folds_frames: Whether the backbone is given all frames of all clips as one batch of images.
    """

    def __init__(self, backbone: keras.layers.Layer, quantizer: Any) -> None:
        self.backbone = backbone
        self.quantizer = quantizer
        known = known_input_shape(backbone)
        backbone_rank = IMAGES_RANK if known is None else len(known)
        self.folds_frames = backbone_rank < quantizer.items.batch_rank
        self._has_time = quantizer.items.batch_rank > IMAGES_RANK
        keeps_time = self._has_time and not self.folds_frames
        self._axes = "batch, time" if keeps_time else "batch"
        self._vectors_rank = 3 if keeps_time else 2

    def build(self, shape: Shape, dtype: str) -> Shape:
        """Build the backbone for batches of items; returns the shape of their features.

        Raises:
            ValueError: The backbone gives something else than features, or clips have too few
                frames.
        """
        backbone_input = shape[:1] + shape[2:] if self.folds_frames else shape
        if not self.backbone.built:
            self.backbone.build(backbone_input)
        batch = keras.KerasTensor(backbone_input, dtype=dtype)
        features = tuple(self.backbone.compute_output_spec(batch).shape)
        if len(features) not in (self._vectors_rank, self._vectors_rank + 2):
            raise ValueError(
                f"The backbone must give features [{self._axes}, num_features] or [{self._axes}, "
                f"height, width, num_features]. Received: features of rank {len(features)}"
            )
        if self._has_time:
            num_frames = shape[1] if self.folds_frames else features[1]
            features = (features[0], num_frames, features[-1])
        return self.quantizer.pooled_shape(features)

    def require_rank(self, rank: int) -> None:
        """Raises ValueError unless batches of items have this rank.

        Before a backbone meets a wrong batch: its own message would not name the cause.
        """
        items = self.quantizer.items
        if rank != items.batch_rank:
            axes = ", ".join(items.batch_axes)
            raise ValueError(
                f"The network takes {items.kind} [{axes}]. Received: a batch of rank {rank}"
            )

    def __call__(self, batch: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        self.require_rank(len(batch.shape))
        if mask is not None and not self.folds_frames:
            raise ValueError(
                "A mask needs a backbone of single frames; clips of different lengths cannot be "
                "masked in a backbone's own time axis. Received: a mask"
            )
        images = ops.reshape(batch, (-1, *batch.shape[2:])) if self.folds_frames else batch
        features = self.backbone(images, training=training)
        if self._has_time and len(features.shape) > self._vectors_rank:
            features = ops.mean(features, axis=(-3, -2))
        if self.folds_frames:
            features = ops.reshape(features, (-1, ops.shape(batch)[1], features.shape[-1]))
        return self.quantizer.pool_frames(features, mask)


def embedding_layers(
    features_shape: Shape, embedding_dim: int | None, center: bool
) -> list[layers.Layer]:
    """Layers from features to embeddings.

    Args:
        features_shape: From `ItemFeatures.build`.
        embedding_dim: Length of the embedding, of each segment for clips; None for the features
            themselves.
        center: Whether each coordinate is brought to mean 0 and variance 1.
    """
    chosen = [layers.GlobalAveragePooling2D()] if len(features_shape) == 4 else []
    if embedding_dim is not None:
        # Centring takes the bias away again.
        chosen.append(layers.Dense(embedding_dim, use_bias=not center))
    if len(features_shape) == 3:
        chosen.append(layers.Flatten())
    if center:
        options = {"momentum": BATCH_NORM_MOMENTUM, "center": False, "scale": False}
        chosen.append(layers.BatchNormalization(**options, name="centering"))
    return chosen or [layers.Identity()]


def known_input_shape(backbone: keras.layers.Layer) -> Any:
    """The shape of batches that a backbone is built for; None if it does not know."""
    return getattr(backbone, "input_shape", None) if backbone.built else None


def read_batch(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Items and their mask `[batch, num_frames]`, if there is one.

    Args:
        batch: A tensor, or a dict of padded `frames` and a boolean `mask`.
    """
    if isinstance(batch, dict):
        return batch["frames"], batch.get("mask")
    return batch, None
