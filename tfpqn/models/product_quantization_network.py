"""Backbone, embedding and quantizer as one Keras model."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfpqn.layers import Quantizer
from tfpqn.metrics import CodebookPerplexity, CodebookUsage
from tfpqn.models.backbones import BATCH_NORM_MOMENTUM

Tensor = Any


@keras.saving.register_keras_serializable(package="tfpqn")
class ProductQuantizationNetwork(keras.Model):
    """A network from images to embeddings and their codes.

    `compile`, `fit`, `evaluate`, `predict`, `save` and `keras.saving.load_model` work as for any
    Keras model; the loss is `tfpqn.losses.AsymmetricTripletLoss`. Codebook usage and perplexity are
    reported beside the loss.

    Args:
        backbone: Keras model or layer from images to features `[batch, num_features]` or feature
            maps `[batch, height, width, num_features]` (averaged over height and width).
        quantizer: A quantizer of `tfpqn.layers`.
        embedding_dim: Length of the embedding, a linear layer over the features. None takes the
            features themselves as the embedding.
        center_embeddings: Whether each embedding coordinate is brought to mean 0 and variance 1
            over the batch before normalisation (batch normalisation without scale and offset).
            Off-centre embeddings all point the same way and train slowly.
        **kwargs: Passed to `keras.Model`.

    Call arguments:
        images: `[batch, height, width, channels]`, pixels 0 .. 255 for the package's backbones.
        training: Whether to quantize softly.

    Returns:
        A dict: `embeddings` `[batch, embedding_dim]` in the form that search compares,
        `quantized` `[batch, embedding_dim]`, `codes` `[batch, code_length]`.

    Raises:
        TypeError: `quantizer` is not a `Quantizer`.
        ValueError: `embedding_dim` is below 1, or does not fit the quantizer.

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
        self.backbone = backbone
        self.quantizer = quantizer
        self.embedding_dim = embedding_dim
        self.center_embeddings = center_embeddings
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
            self.build(backbone_input)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the images that the network was built for.

        Raises:
            RuntimeError: The network is not built yet, or takes images of any size.
        """
        shape = self._images_shape
        if shape is None or None in shape[1:]:
            raise RuntimeError(
                "The network's image shape is not known. Expected a backbone with a fixed input "
                f"shape, or a call on a batch of images first. Received: {shape}"
            )
        _, height, width, channels = shape
        return height, width, channels

    _images_shape: tuple[Any, ...] | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self._images_shape is not None:
            return
        if not self.backbone.built:
            self.backbone.build(input_shape)
        images = keras.KerasTensor(input_shape, dtype=self.compute_dtype)
        features_shape = self.backbone.compute_output_spec(images).shape
        for layer in self._embedding_layers(len(features_shape)):
            self.embedding.add(layer)
        self.embedding.build(features_shape)
        embedding_shape = self.embedding.compute_output_shape(features_shape)
        # Deserialized from a file, the quantizer comes built.
        if not self.quantizer.built:
            self.quantizer.build(embedding_shape)
        if self.quantizer.embedding_dim != embedding_shape[-1]:
            raise ValueError(
                f"The quantizer is built for embeddings of length {self.quantizer.embedding_dim}. "
                f"Received: embedding_dim={embedding_shape[-1]}"
            )
        self._images_shape = tuple(input_shape)
        self.built = True

    def _embedding_layers(self, features_rank: int) -> list[layers.Layer]:
        if features_rank not in (2, 4):
            raise ValueError(
                "The backbone must give features [batch, num_features] or [batch, height, width, "
                f"num_features]. Received: features of rank {features_rank}"
            )
        chosen = [layers.GlobalAveragePooling2D()] if features_rank == 4 else []
        if self.embedding_dim is not None:
            # Centring takes the bias away again.
            chosen.append(layers.Dense(self.embedding_dim, use_bias=not self.center_embeddings))
        if self.center_embeddings:
            chosen.append(
                layers.BatchNormalization(
                    momentum=BATCH_NORM_MOMENTUM, center=False, scale=False, name="centering"
                )
            )
        return chosen or [layers.Identity()]

    def require_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raises ValueError unless the network takes images of this shape, where that is known."""
        expected = (None, None, None) if self._images_shape is None else self._images_shape[1:]
        if any(a not in (None, b) for a, b in zip(expected, image_shape, strict=True)):
            raise ValueError(
                f"The images must have the network's shape {tuple(expected)}. "
                f"Received: {tuple(image_shape)}"
            )

    def embed(self, images: Tensor, training: bool = False) -> Tensor:
        """Embeddings `[batch, embedding_dim]` of images, in the form that search compares."""
        features = self.backbone(images, training=training)
        return self.quantizer.normalize(self.embedding(features, training=training))

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        embeddings = self.embed(images, training=training)
        quantization = self.quantizer.quantize_embeddings(embeddings, training=training)
        return {
            "embeddings": embeddings,
            "quantized": quantization.reconstruction,
            "codes": quantization.codes,
        }

    def encode(self, images: Tensor) -> Tensor:
        """Codes `[batch, code_length]` of a batch of images."""
        return self.quantizer.encode(self.embed(images))

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled loss of the pairs `[batch, 2, embedding_dim]`, plus the layers' losses."""
        pairs = None if y_pred is None else _pair(y_pred)
        return super().compute_loss(x, y, pairs, sample_weight, training=training)

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProductQuantizationNetwork:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "quantizer")
        }
        return cls(**{**config, **parts})


def _pair(y_pred: dict[str, Tensor]) -> Tensor:
    """What losses and metrics are given: raw and quantized embeddings `[batch, 2, dim]`."""
    return ops.stack([y_pred["embeddings"], y_pred["quantized"]], axis=1)
