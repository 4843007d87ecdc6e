"""Backbone, embedding and quantizer as one Keras model, for images and for clips."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfpqn.items import CLIPS, ItemSpec
from tfpqn.layers import Quantizer
from tfpqn.metrics import CodebookPerplexity, CodebookUsage
from tfpqn.models.backbones import BATCH_NORM_MOMENTUM
from tfpqn.models.label_numbers import number_batch, number_data

Tensor = Any

# What a classifier may be given -> the outputs it stands for.
CLASSIFIED = {
    "quantized": ("quantized",),
    "embeddings": ("embeddings",),
    "both": ("embeddings", "quantized"),
}


@keras.saving.register_keras_serializable(package="tfpqn")
class ProductQuantizationNetwork(keras.Model):
    """A network from images, or with a temporal quantizer from clips, to embeddings and codes.

    `compile`, `fit`, `evaluate`, `predict`, `save` and `keras.saving.load_model` work as for any
    Keras model; the loss is `tfpqn.losses.AsymmetricTripletLoss`. Codebook usage and perplexity are
    reported beside the loss. Labels are integers of any size, or multi-hot rows. On JAX, the labels
    of a `PyDataset` or a torch `DataLoader` must fit 32 bits.

    Args:
        backbone: Keras model or layer from images to features `[batch, num_features]` or feature
            maps `[batch, height, width, num_features]` (averaged over height and width). With a
            temporal quantizer it is given all frames of all clips as one batch of images; a
            backbone that is built for clips is given the clips, and has to keep a time axis:
            features `[batch, time, num_features]` or `[batch, time, height, width, num_features]`.
        quantizer: A quantizer of `tfpqn.layers`.
        embedding_dim: Length of the embedding (of each segment, for clips), a linear layer over
            the features. None takes the features themselves as the embedding.
        center_embeddings: Whether each embedding coordinate is brought to mean 0 and variance 1
            over the batch before normalisation (batch normalisation without scale and offset).
            Off-centre embeddings all point the same way and train slowly.
        level_loss_weight: Weight of the loss on each shorter partial sum of a residual quantizer,
            beside that on the whole reconstruction. Above 0, the first levels alone are trained to
            be good codes as well.
        num_classes: Number of classes of a linear classifier, which trains beside the compiled loss
            and takes no part in a search; None for no classifier.
        classified: What it classifies: `"quantized"` items, `"embeddings"`, or `"both"`.
        classification_weight: Weight of its cross-entropy, of both the mean.
        label_smoothing: Share of the classifier's target that is spread over all classes.
        **kwargs: Passed to `keras.Model`.

    Call arguments:
        images: `[batch, height, width, channels]`, pixels 0 .. 255 for the package's backbones;
            clips `[batch, num_frames, height, width, channels]`, or for clips of different lengths
            a dict of padded `frames` and a boolean `mask` `[batch, num_frames]`.
        training: Whether to quantize softly.

    Returns:
        A dict: `embeddings` `[batch, embedding_dim]` in the form that search compares,
        `quantized` `[batch, embedding_dim]`, `codes` `[batch, code_length]`, and with a level loss
        `partial_sums` `[batch, num_levels, embedding_dim]`, with a classifier `logits`
        `[batch, num_classes]`, of the quantized items if it classifies both.

    Raises:
        TypeError: `quantizer` is not a `Quantizer`.
        ValueError: `embedding_dim` is below 1 or does not fit the quantizer, `level_loss_weight` is
            negative or has no levels to train, or clips have fewer frames than segments.

    Example:

    >>> backbone = tfpqn.models.build_backbone("conv3", (32, 32, 3))
    >>> quantizer = tfpqn.layers.ProductQuantization(num_subspaces=4, num_codewords=64)
    >>> network = ProductQuantizationNetwork(backbone, quantizer, embedding_dim=512)
    >>> network.compile("adam", tfpqn.losses.AsymmetricTripletLoss())
    >>> network.fit(images, labels, batch_size=128)
    """

    def __init__(
        self,
        backbone: keras.layers.Layer,
        quantizer: Quantizer,
        embedding_dim: int | None = 512,
        *,
        center_embeddings: bool = True,
        level_loss_weight: float = 0.0,
        num_classes: int | None = None,
        classified: str = "quantized",
        classification_weight: float = 1.0,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(quantizer, Quantizer):
            raise TypeError(
                "quantizer must be a layer of tfpqn.layers, such as ProductQuantization. "
                f"Received: {quantizer!r}"
            )
        if embedding_dim is not None and embedding_dim < 1:
            raise ValueError(f"embedding_dim must be at least 1. Received: {embedding_dim}")
        if not 0 <= level_loss_weight < float("inf"):
            raise ValueError(
                f"level_loss_weight must be finite and at least 0. Received: {level_loss_weight}"
            )
        if level_loss_weight and quantizer.num_trained_levels < quantizer.num_levels:
            raise ValueError(
                "level_loss_weight must be 0 with residuals='reconstructions', where training "
                f"sees one level alone. Received: {level_loss_weight}"
            )
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2. Received: {num_classes}")
        if classified not in CLASSIFIED:
            raise ValueError(
                f"classified must be one of {list(CLASSIFIED)}. Received: {classified!r}"
            )
        if not 0 <= classification_weight < float("inf"):
            raise ValueError(
                "classification_weight must be finite and at least 0. "
                f"Received: {classification_weight}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1). Received: {label_smoothing}")
        self.backbone = backbone
        self.quantizer = quantizer
        self.embedding_dim = embedding_dim
        self.center_embeddings = center_embeddings
        self.level_loss_weight = level_loss_weight
        self.num_classes = num_classes
        self.classified = classified
        self.classification_weight = classification_weight
        self.label_smoothing = label_smoothing
        self.classifier = None
        if num_classes is not None:
            self.classifier = layers.Dense(num_classes, name="classifier")
        self.embedding = keras.Sequential(name="embedding")
        self.codebook_metrics = [
            metric(quantizer.code_length, quantizer.num_codewords, name=name)
            for metric, name in (
                (CodebookUsage, "codebook_usage"),
                (CodebookPerplexity, "codebook_perplexity"),
            )
        ]
        # A backbone that knows its input lets the network be complete from the start.
        backbone_input = getattr(backbone, "input_shape", None) if backbone.built else None
        if backbone_input is not None:
            folds = self.takes_clips and len(backbone_input) == 4
            self.build((None, *backbone_input) if folds else backbone_input)

    @property
    def takes_clips(self) -> bool:
        """Whether the network is one of clips rather than of images."""
        return self.items is CLIPS

    @property
    def items(self) -> ItemSpec:
        """What the network embeds: the items that its quantizer is for."""
        return self.quantizer.items

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the images or frames that the network was built for.

        Raises:
            RuntimeError: The network is not built yet, or takes images of any size.
        """
        shape = self._images_shape
        if shape is None or None in shape[-3:]:
            raise RuntimeError(
                "The network's image shape is not known. Expected a backbone with a fixed input "
                f"shape, or a call on a batch of images first. Received: {shape}"
            )
        height, width, channels = shape[-3:]
        return height, width, channels

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip, where the backbone fixes their number; else None."""
        shape = self._images_shape
        return None if shape is None or self.folds_frames else shape[-4]

    _images_shape: tuple[Any, ...] | None = None
    # Whether the backbone is given the frames of clips as a batch of images.
    folds_frames: bool = False
    # Of a network from a file: `trainable` of each of `_own_layers`.
    _saved_trainable: tuple[bool, ...] = ()

    def build(self, input_shape: Any) -> None:
        if self._images_shape is not None:
            return
        shape = tuple(input_shape["frames"] if isinstance(input_shape, dict) else input_shape)
        self._require_rank(len(shape))
        embedding_input = self._embedding_input(shape)
        for layer in self._embedding_layers(embedding_input):
            self.embedding.add(layer)
        self.embedding.build(embedding_input)
        embedding_shape = self.embedding.compute_output_shape(embedding_input)
        # Deserialized from a file, the quantizer comes built.
        if not self.quantizer.built:
            self.quantizer.build(embedding_shape)
        if self.quantizer.embedding_dim != embedding_shape[-1]:
            raise ValueError(
                f"The quantizer is built for embeddings of length {self.quantizer.embedding_dim}. "
                f"Received: embedding_dim={embedding_shape[-1]}"
            )
        if self.classifier is not None:
            self.classifier.build(embedding_shape)
        self._freeze_own_layers()
        self._images_shape = shape
        self.built = True

    def _own_layers(self) -> list[layers.Layer]:
        """The layers that the network makes itself, a layer before those that it holds."""
        own = [self.classifier, self.embedding, *self.embedding.layers]
        return [layer for layer in own if layer is not None]

    def _freeze_own_layers(self) -> None:
        """Freeze what was frozen before it was built, and what was when the network was saved."""
        if not self.embedding.trainable:
            # Keras does not freeze the layers that are added later.
            self.embedding.trainable = False
        for layer, is_trainable in zip(self._own_layers(), self._saved_trainable, strict=False):
            layer.trainable = is_trainable

    def _embedding_input(self, images_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the features that the embedding is made of; builds the backbone."""
        if self.takes_clips:
            self.quantizer.require_frames(images_shape[1])
        self.folds_frames = self.takes_clips and not _takes_rank(self.backbone, 5)
        backbone_input = images_shape[:1] + images_shape[2:] if self.folds_frames else images_shape
        if not self.backbone.built:
            self.backbone.build(backbone_input)
        images = keras.KerasTensor(backbone_input, dtype=self.compute_dtype)
        shape = tuple(self.backbone.compute_output_spec(images).shape)
        ranks = (3, 5) if self.takes_clips and not self.folds_frames else (2, 4)
        if len(shape) not in ranks:
            axes = "batch, time" if 3 in ranks else "batch"
            raise ValueError(
                f"The backbone must give features [{axes}, num_features] or [{axes}, height, "
                f"width, num_features]. Received: features of rank {len(shape)}"
            )
        if not self.takes_clips:
            return shape
        if not self.folds_frames:
            self.quantizer.require_frames(shape[1])
        return (shape[0], self.quantizer.total_segments, shape[-1])

    def _embedding_layers(self, features_shape: tuple[int | None, ...]) -> list[layers.Layer]:
        chosen = [layers.GlobalAveragePooling2D()] if len(features_shape) == 4 else []
        if self.embedding_dim is not None:
            # Centring takes the bias away again.
            chosen.append(layers.Dense(self.embedding_dim, use_bias=not self.center_embeddings))
        if self.takes_clips:
            chosen.append(layers.Flatten())
        if self.center_embeddings:
            chosen.append(
                layers.BatchNormalization(
                    momentum=BATCH_NORM_MOMENTUM, center=False, scale=False, name="centering"
                )
            )
        return chosen or [layers.Identity()]

    def require_item_shape(self, item_shape: tuple[int, ...]) -> None:
        """Raises ValueError unless the network takes items of this shape, where that is known.

        Args:
            item_shape: `(height, width, channels)`, of clips with `num_frames` before.
        """
        self._require_rank(1 + len(item_shape))
        expected = (None, None, None) if self._images_shape is None else self._images_shape[-3:]
        if any(a not in (None, b) for a, b in zip(expected, item_shape[-3:], strict=True)):
            raise ValueError(
                f"The images must have the network's shape {tuple(expected)}. "
                f"Received: {tuple(item_shape[-3:])}"
            )

    def embed(self, images: Tensor, training: bool = False) -> Tensor:
        """Embeddings `[batch, embedding_dim]` of images, in the form that search compares."""
        if self.takes_clips:
            features = self._segment_features(images, training)
        else:
            self._require_rank(5 if isinstance(images, dict) else len(images.shape))
            features = self.backbone(images, training=training)
        return self.quantizer.normalize(self.embedding(features, training=training))

    def _read_clips(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Frames `[batch, num_frames, height, width, channels]` and the mask, if there is one."""
        frames, mask = clips, None
        if isinstance(clips, dict):
            frames, mask = clips["frames"], clips.get("mask")
        self._require_rank(len(frames.shape))
        self.quantizer.require_frames(frames.shape[1])
        if mask is not None and not self.folds_frames:
            raise ValueError(
                "A mask needs a backbone of single frames; clips of different lengths cannot be "
                "masked in a backbone's own time axis. Received: a mask"
            )
        return frames, mask

    def _segment_features(self, clips: Tensor, training: bool) -> Tensor:
        """Features of clips, averaged in each segment: `[batch, total_segments, num_features]`.

        The embedding is linear but for its centring, so it is applied to the few averages instead
        of to all frames; and the centre of each segment is taken away, which all clips share.
        """
        frames, mask = self._read_clips(clips)
        images = frames
        if self.folds_frames:
            images = ops.reshape(frames, (-1, *frames.shape[2:]))
        features = self.backbone(images, training=training)
        if len(features.shape) > (2 if self.folds_frames else 3):
            features = ops.mean(features, axis=(-3, -2))
        if self.folds_frames:
            features = ops.reshape(features, (-1, ops.shape(frames)[1], features.shape[-1]))
        return self.quantizer.pool_frames(features, mask)

    def _require_rank(self, rank: int) -> None:
        """Before a backbone meets a wrong batch: its own message would not name the cause."""
        if rank != (5 if self.takes_clips else 4):
            kind = "clips [batch, num_frames," if self.takes_clips else "images [batch,"
            raise ValueError(
                f"The network takes {kind} height, width, channels]. Received: a batch of rank "
                f"{rank}"
            )

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        embeddings = self.embed(images, training=training)
        quantization = self.quantizer.quantize_embeddings(embeddings, training=training)
        outputs = {
            "embeddings": embeddings,
            "quantized": quantization.reconstruction,
            "codes": quantization.codes,
        }
        if self.level_loss_weight:
            outputs["partial_sums"] = quantization.partial_sums
        if self.classifier is not None:
            outputs["logits"] = self.classifier(outputs[CLASSIFIED[self.classified][-1]])
        return outputs

    def encode(self, images: Tensor) -> Tensor:
        """Codes `[batch, code_length]` of a batch of images."""
        return self.quantizer.encode(self.embed(images))

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any
    ) -> Any:
        x, y = self._number(x, y)
        if validation_data is not None:
            kwargs["validation_data"] = number_batch(validation_data)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(*self._number(x, y), *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().train_on_batch(*self._number(x, y), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().test_on_batch(*self._number(x, y), *args, **kwargs)

    def _number(self, x: Any, y: Any) -> tuple[Any, Any]:
        """See `number_data`; a classifier's labels are the numbers of its classes already."""
        if self.num_classes is not None and isinstance(y, np.ndarray) and y.dtype.kind in "iu":
            largest = int(y.max(initial=0))
            if y.ndim == 1 and largest >= self.num_classes:
                raise ValueError(
                    f"A classifier of num_classes={self.num_classes} takes labels below that. "
                    f"Received: the label {largest}"
                )
        return number_data(x, y)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled loss of the pairs `[batch, 2, embedding_dim]`, plus the layers' losses.

        With `level_loss_weight`, plus that times the loss of each shorter partial sum.
        """
        if y_pred is None:
            return super().compute_loss(x, y, None, sample_weight, training=training)
        total = super().compute_loss(x, y, _pair(y_pred), sample_weight, training=training)
        if self.level_loss_weight:
            for level in range(self.quantizer.num_levels - 1):
                shorter = {**y_pred, "quantized": y_pred["partial_sums"][:, level]}
                loss = self._level_loss()(y, _pair(shorter), sample_weight)
                total = total + self.level_loss_weight * loss
        if self.classifier is not None:
            sides = CLASSIFIED[self.classified]
            for side in sides:
                loss = self._classification_loss(y, self.classifier(y_pred[side]), sample_weight)
                total = total + self.classification_weight / len(sides) * loss
        return total

    def _classification_loss(self, labels: Tensor, logits: Tensor, sample_weight: Tensor) -> Tensor:
        """Cross-entropy of integer labels `[batch]` under the classifier."""
        if len(labels.shape) != 1:
            raise ValueError(
                "A classifier needs integer labels [batch]. Received: labels of shape "
                f"{tuple(labels.shape)}"
            )
        targets = ops.one_hot(labels, self.num_classes, dtype=logits.dtype)
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=self.label_smoothing
        )
        return loss(targets, logits, sample_weight)

    def _level_loss(self) -> Any:
        if not isinstance(self.loss, keras.losses.Loss):
            raise ValueError(
                "level_loss_weight needs a loss that is a keras.losses.Loss, such as "
                f"AsymmetricTripletLoss. Received: loss={self.loss!r}"
            )
        return self.loss

    def compute_metrics(
        self,
        x: Tensor,
        y: Tensor,
        y_pred: dict[str, Tensor],
        sample_weight: Tensor = None,
    ) -> dict[str, Tensor]:
        for metric in self.codebook_metrics:
            metric.update_state(y_pred["codes"])
        return super().compute_metrics(x, y, _pair(y_pred), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "quantizer": keras.saving.serialize_keras_object(self.quantizer),
            "embedding_dim": self.embedding_dim,
            "center_embeddings": self.center_embeddings,
            "level_loss_weight": self.level_loss_weight,
            "num_classes": self.num_classes,
            "classified": self.classified,
            "classification_weight": self.classification_weight,
            "label_smoothing": self.label_smoothing,
            "own_layers_trainable": [layer.trainable for layer in self._own_layers()],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProductQuantizationNetwork:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "quantizer")
        }
        saved = tuple(config.get("own_layers_trainable", ()))
        arguments = {name: config[name] for name in config if name != "own_layers_trainable"}
        network = cls(**{**arguments, **parts})
        # Before Keras compiles it: the optimizer's state is that of the trainable variables.
        network._saved_trainable = saved
        network._freeze_own_layers()
        return network


def _takes_rank(backbone: keras.layers.Layer, rank: int) -> bool:
    shape = getattr(backbone, "input_shape", None) if backbone.built else None
    return shape is not None and len(shape) == rank


def _pair(y_pred: dict[str, Tensor]) -> Tensor:
    """What losses and metrics are given: raw and quantized embeddings `[batch, 2, dim]`."""
    return ops.stack([y_pred["embeddings"], y_pred["quantized"]], axis=1)
