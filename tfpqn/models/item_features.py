"""What a backbone makes of a batch of items, for each kind of items."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfpqn.items import CLIPS, IMAGES

Tensor = Any
Shape = tuple[int | None, ...]


class ImageFeatures:
    """Features of images: those of the backbone, vectors or maps.

    Args:
        backbone: Layer or model from images to features.
        quantizer: The network's quantizer.
    """

    # Whether the backbone is given the frames of clips as a batch of images.
    folds_frames = False
    _ranks = (2, 4)
    _axes = "batch"

    def __init__(self, backbone: keras.layers.Layer, quantizer: Any) -> None:
        self.backbone = backbone
        self.quantizer = quantizer

    def build(self, shape: Shape, dtype: str) -> Shape:
        """Build the backbone for batches of items; returns the shape of their features.

        Raises:
            ValueError: The backbone gives something else than features.
        """
        backbone_input = self._backbone_input(shape)
        if not self.backbone.built:
            self.backbone.build(backbone_input)
        batch = keras.KerasTensor(backbone_input, dtype=dtype)
        features = tuple(self.backbone.compute_output_spec(batch).shape)
        if len(features) not in self._ranks:
            raise ValueError(
                f"The backbone must give features [{self._axes}, num_features] or [{self._axes}, "
                f"height, width, num_features]. Received: features of rank {len(features)}"
            )
        return self._pooled_shape(features)

    def __call__(self, batch: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        return self.backbone(batch, training=training)

    def _backbone_input(self, shape: Shape) -> Shape:
        return shape

    def _pooled_shape(self, features: Shape) -> Shape:
        return features


class ClipFeatures(ImageFeatures):
    """Features of clips, averaged in each segment: `[batch, total_segments, num_features]`.

    The backbone is given whole clips and keeps a time axis.

    A network's embedding is linear but for its centring, so it is applied to the few averages
    instead of to all frames; and the centre of each segment is taken away, which all clips share.
    """

    _ranks = (3, 5)
    _axes = "batch, time"

    def __call__(self, batch: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        self.quantizer.require_frames(batch.shape[1])
        return self.quantizer.pool_frames(self._frame_features(batch, training), mask)

    def _frame_features(self, clips: Tensor, training: bool) -> Tensor:
        """`[batch, time, num_features]`."""
        return _average_maps(self.backbone(clips, training=training), rank=3)

    def _backbone_input(self, shape: Shape) -> Shape:
        self.quantizer.require_frames(shape[1])
        return shape

    def _pooled_shape(self, features: Shape) -> Shape:
        self.quantizer.require_frames(features[1])
        return (features[0], self.quantizer.total_segments, features[-1])


class FrameFeatures(ClipFeatures):
    """The same of a backbone of images, which is given all frames of all clips as one batch."""

    folds_frames = True
    _ranks = (2, 4)
    _axes = "batch"

    def _frame_features(self, clips: Tensor, training: bool) -> Tensor:
        images = ops.reshape(clips, (-1, *clips.shape[2:]))
        features = _average_maps(self.backbone(images, training=training), rank=2)
        return ops.reshape(features, (-1, ops.shape(clips)[1], features.shape[-1]))

    def _backbone_input(self, shape: Shape) -> Shape:
        self.quantizer.require_frames(shape[1])
        return shape[:1] + shape[2:]

    def _pooled_shape(self, features: Shape) -> Shape:
        return (features[0], self.quantizer.total_segments, features[-1])


def features_of(backbone: keras.layers.Layer, quantizer: Any) -> ImageFeatures:
    """What makes features of the items that the quantizer is for."""
    whole = {IMAGES.kind: ImageFeatures, CLIPS.kind: ClipFeatures}
    frame_by_frame = {IMAGES.kind: ImageFeatures, CLIPS.kind: FrameFeatures}
    items = quantizer.items
    takes_whole = len(known_input_shape(backbone) or ()) == items.batch_rank
    return (whole if takes_whole else frame_by_frame)[items.kind](backbone, quantizer)


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


def _average_maps(features: Tensor, rank: int) -> Tensor:
    """Feature maps averaged over height and width; features of that rank are none."""
    return ops.mean(features, axis=(-3, -2)) if len(features.shape) > rank else features
