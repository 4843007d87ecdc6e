"""What a backbone makes of a batch of items, and what an embedding is made of."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfpqn.items import IMAGES, VECTORS
from tfpqn.layers import Quantizer
from tfpqn.models.small_nets import BATCH_NORM_MOMENTUM
from tfpqn.ops import motion_images

Tensor = Any
Shape = tuple[int | None, ...]

# Rank of a batch of images, which a backbone takes unless it says otherwise.
IMAGES_RANK = 4
# Name of the layer that turns embeddings.
ROTATION = "rotation"


class ItemFeatures:
    """Features of a batch of items, in the form that a network's embedding is made of.

    Those of images are what the backbone gives, vectors or maps. Those of clips are averaged over
    each segment, `[batch, total_segments, num_features]`: the embedding is linear but for its
    centring, so it is applied to the few averages instead of to all frames; and the centre of each
    segment is taken away, which all clips share. With `motion` the backbone is given one image of
    each segment in place of the frames.

    Args:
        backbone: Layer or model from images, from whole clips or from vectors to features; None
            takes vectors as features.
        quantizer: The network's quantizer.
        motion: Stretches of time in the image of a segment, see `motion_images`; 0 for frames.

    Attributes:
        items: What the network takes: vectors, or what the quantizer is for.
        folds_frames: Whether the backbone is given all frames of all clips as one batch of images.
        known_shape: Shape of the batches that the backbone is built for; None if it does not know.

    Raises:
        ValueError: The quantizer is for clips, and the backbone takes vectors; or `motion` is for
            other items, or for a backbone of other images.
    """

    def __init__(
        self, backbone: keras.layers.Layer | None, quantizer: Quantizer, motion: int = 0
    ) -> None:
        self.backbone = backbone
        self.quantizer = quantizer
        self.motion = motion
        known = known_input_shape(backbone)
        takes_vectors = backbone is None or (known is not None and len(known) == 2)
        self.items = VECTORS if takes_vectors else quantizer.items
        if takes_vectors and quantizer.items is not IMAGES:
            raise ValueError(
                "A network of vectors needs a quantizer of single items, such as "
                f"ProductQuantization. Received: {type(quantizer).__name__}"
            )
        backbone_rank = IMAGES_RANK if known is None else len(known)
        self.folds_frames = not takes_vectors and backbone_rank < self.items.batch_rank
        self._has_time = self.items.batch_rank > IMAGES_RANK
        keeps_time = self._has_time and not self.folds_frames
        self._axes = "batch, time" if keeps_time else "batch"
        self._vectors_rank = 3 if keeps_time else 2
        self._channels_factor = 2 * motion or 1
        fits = known is None or not known[-1] % self._channels_factor
        if motion and not (self.folds_frames and fits):
            raise ValueError(
                "motion is for clips and a backbone of images of 2 x motion x channels, the "
                f"channels of a frame. Received: motion={motion}, {type(quantizer).__name__}, a "
                f"backbone of {known}"
            )
        self.known_shape = known
        if known is not None and self.folds_frames:
            self.known_shape = (None, *known[:-1], known[-1] // self._channels_factor)

    def build(self, shape: Shape, dtype: str) -> Shape:
        """Build the backbone for batches of items; returns the shape of their features.

        Raises:
            ValueError: The backbone gives something else than features, or clips have too few
                frames.
        """
        if self.backbone is None:
            return shape
        backbone_input = shape
        if self.folds_frames:
            channels = shape[-1] and shape[-1] * self._channels_factor
            backbone_input = (*shape[:1], *shape[2:-1], channels)
        if not self.backbone.built:
            self.backbone.build(backbone_input)
        batch = keras.KerasTensor(backbone_input, dtype=dtype)
        output = self.backbone.compute_output_spec(batch)
        features = tuple(getattr(output, "shape", ()))
        if len(features) not in (self._vectors_rank, self._vectors_rank + 2):
            raise ValueError(
                f"The backbone must give features [{self._axes}, num_features] or [{self._axes}, "
                f"height, width, num_features]. Received: {features or output}"
            )
        if self._has_time:
            num_frames = shape[1] if self.folds_frames else features[1]
            features = (features[0], num_frames, features[-1])
        return self.quantizer.pooled_shape(features)

    def require_rank(self, rank: int) -> None:
        """Raises ValueError unless batches of items have this rank.

        Before a backbone meets a wrong batch: its own message would not name the cause.
        """
        if rank != self.items.batch_rank:
            axes = ", ".join(self.items.batch_axes)
            raise ValueError(
                f"The network takes {self.items.kind} [{axes}]. Received: a batch of rank {rank}"
            )

    def image_axes(self, shape: Shape) -> tuple[Any, ...]:
        """Of the shape of an item or a batch what one image, frame or vector has."""
        return tuple(shape[1 - min(self.items.batch_rank, IMAGES_RANK) :])

    def require_item_shape(self, item_shape: Shape, batch_shape: Shape | None) -> None:
        """Raises ValueError unless items of this shape fit the batches that the network knows."""
        self.require_rank(1 + len(item_shape))
        received = self.image_axes(item_shape)
        expected = received if batch_shape is None else self.image_axes(batch_shape)
        if any(a not in (None, b) for a, b in zip(expected, received, strict=True)):
            kind = "images" if self.items.has_pixels else "vectors"
            raise ValueError(
                f"The {kind} must have the network's shape {expected}. Received: {received}"
            )

    def __call__(self, batch: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        self.require_rank(len(batch.shape))
        if mask is not None and not self.folds_frames:
            raise ValueError(
                "A mask needs a backbone of single frames; clips of different lengths cannot be "
                "masked in a backbone's own time axis. Received: a mask"
            )
        if self.backbone is None:
            return batch
        if self.motion:
            stages = self.quantizer.pyramid
            images = [motion_images(batch, number, self.motion, mask) for number in stages]
            batch = ops.concatenate(images, axis=1)
        images = ops.reshape(batch, (-1, *batch.shape[2:])) if self.folds_frames else batch
        features = self.backbone(images, training=training)
        if self._has_time and len(features.shape) > self._vectors_rank:
            features = ops.mean(features, axis=(-3, -2))
        if self.folds_frames:
            features = ops.reshape(features, (-1, ops.shape(batch)[1], features.shape[-1]))
        return features if self.motion else self.quantizer.pool_frames(features, mask)


def embedding_layers(
    features_shape: Shape,
    embedding_dim: int | None,
    *,
    center: bool,
    scale_features: bool = False,
    dropout: float = 0.0,
    rotation: bool = False,
) -> list[layers.Layer]:
    """Layers from features to embeddings.

    Args:
        features_shape: From `ItemFeatures.build`.
        embedding_dim: Length of the embedding, of each segment for clips; None for the features
            themselves.
        center: Whether each coordinate is brought to mean 0 and variance 1.
        scale_features: Whether features are brought to one length, the root of their number.
        dropout: Share of the features that training leaves out.
        rotation: Whether an orthogonal matrix turns the embedding.
    """
    chosen = [layers.GlobalAveragePooling2D()] if len(features_shape) == 4 else []
    if scale_features:
        length = float(features_shape[-1] or 1) ** 0.5
        chosen += [layers.UnitNormalization(), layers.Rescaling(length)]
    if dropout:
        chosen.append(layers.Dropout(dropout))
    if embedding_dim is not None:
        # Centring takes the bias away again.
        chosen.append(layers.Dense(embedding_dim, use_bias=not center))
    if len(features_shape) == 3:
        chosen.append(layers.Flatten())
    if center:
        options = {"momentum": BATCH_NORM_MOMENTUM, "center": False, "scale": False}
        chosen.append(layers.BatchNormalization(**options, name="centering"))
    if rotation:
        dim = embedding_dim or features_shape[-1]
        rotate = layers.Dense(dim, use_bias=False, kernel_initializer="identity", name=ROTATION)
        chosen.append(rotate)
    return chosen or [layers.Identity()]


def known_input_shape(backbone: keras.layers.Layer | None) -> Any:
    """The shape of batches that a backbone is built for; None if it does not know."""
    is_built = backbone is not None and backbone.built
    shape = getattr(backbone, "input_shape", None) if is_built else None
    if not isinstance(shape, tuple | None):
        raise ValueError(f"The backbone must have one input. Received: inputs of shapes {shape}")
    return shape


def read_batch(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Items and their mask `[batch, num_frames]`, if there is one.

    Args:
        batch: A tensor, or a dict of padded `frames` and a boolean `mask`.
    """
    if isinstance(batch, dict):
        return batch["frames"], batch.get("mask")
    return batch, None
