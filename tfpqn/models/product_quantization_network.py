"""Backbone, embedding and quantizer as one Keras model, for images, clips and vectors."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfpqn.items import RESIZES, ItemSpec
from tfpqn.layers import Quantizer
from tfpqn.metrics import CodebookPerplexity, CodebookUsage
from tfpqn.models.classifier import Classifier
from tfpqn.models.item_features import (
    IMAGES_RANK,
    ROTATION,
    ItemFeatures,
    embedding_layers,
    read_batch,
)
from tfpqn.models.label_numbers import ModelOfAnyLabels
from tfpqn.models.replicated_model import ReplicatedModel
from tfpqn.models.trainable_layers import flatten_layers, read_trainable, set_trainable

Tensor = Any


@keras.saving.register_keras_serializable(package="tfpqn")
class ProductQuantizationNetwork(ModelOfAnyLabels, ReplicatedModel):
    """A network from images, clips (with a temporal quantizer) or vectors to embeddings and codes.

    `compile`, `fit`, `evaluate`, `predict`, `save` and `keras.saving.load_model` work as for any
    Keras model; the loss is `tfpqn.losses.AsymmetricTripletLoss`. Codebook usage and perplexity are
    reported beside the loss. Labels are integers of any size, or multi-hot rows. On JAX, labels
    that come as a stream of batches must fit 32 bits.

    Args:
        backbone: Keras model or layer from images to features `[batch, num_features]` or feature
            maps `[batch, height, width, num_features]` (averaged over height and width). With a
            temporal quantizer it is given all frames of all clips as one batch of images, or, built
            for clips, the clips; it then keeps a time axis before the others. None for vectors of
            another model, `[batch, dim]`, which are the features.
        quantizer: A quantizer of `tfpqn.layers`.
        embedding_dim: Length of the embedding (of each segment, for clips), a linear layer over
            the features. None takes the features themselves as the embedding.
        center_embeddings: Whether each embedding coordinate is brought to mean 0 and variance 1
            over the batch before normalisation (batch normalisation without scale and offset).
            Off-centre embeddings all point the same way and train slowly. None centres all but
            vectors that are the embeddings themselves, whose similarities it would change.
        resize: How images of another size are brought to the network's, see
            `tfpqn.datasets.decode_image`; the exported graph does so.
        scale_features: Whether the features are brought to one length, the root of their number.
        dropout: Share of the features that training leaves out.
        motion: For clips, how many stretches of time the backbone sees at once: it is given one
            image of each segment, with the mean frame and the mean change of each stretch as
            channels, `2 * motion` times those of a frame (`tfpqn.ops.motion_images`). 0 gives it
            the frames one by one, and their features are averaged.
        rotation: Whether an orthogonal matrix turns the embeddings, which changes no similarity of
            whole vectors, and lets codebooks fit better; `tfpqn.training.fit_vectors` fits it.
        num_classes: Number of classes of a linear classifier, which trains beside the compiled loss
            and takes no part in a search; None for no classifier.
        classified: What it classifies: `"quantized"` items, `"embeddings"`, or `"both"`.
        classification_weight: Weight of its cross-entropy, of both the mean.
        label_smoothing: Share of the classifier's target that is spread over all classes.
        **kwargs: Passed to `keras.Model`.

    Call arguments:
        images: `[batch, height, width, channels]`, pixels 0 .. 255 for the package's backbones;
            clips `[batch, num_frames, height, width, channels]`, or for clips of different lengths
            a dict of padded `frames` and a boolean `mask` `[batch, num_frames]`; vectors
            `[batch, dim]`.
        training: Whether to quantize softly.

    Returns:
        A dict: `embeddings` `[batch, embedding_dim]` in the form that search compares,
        `quantized` `[batch, embedding_dim]`, `codes` `[batch, code_length]` (in training those of
        the first level alone), and with a classifier `logits` `[batch, num_classes]`, of the
        quantized items if it classifies both.

    Raises:
        TypeError: `quantizer` is not a `Quantizer`.
        ValueError: `embedding_dim` is below 1 or does not fit the quantizer, `resize` is unknown,
            an argument of the classifier is out of range, or clips have fewer frames than segments.

    Example:

    >>> backbone = tfpqn.models.build_backbone("conv3", (8, 8, 3))
    >>> quantizer = tfpqn.layers.ProductQuantization(num_subspaces=4, num_codewords=16)
    >>> network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, embedding_dim=32)
    >>> network.compile("adam", tfpqn.losses.AsymmetricTripletLoss())
    >>> images = np.random.randint(0, 256, (20, 8, 8, 3))
    >>> history = network.fit(images, np.arange(20) % 2, verbose=0)
    >>> tuple(network.encode(images).shape)
    (20, 4)
    """

    def __init__(
        self,
        backbone: keras.layers.Layer | None,
        quantizer: Quantizer,
        embedding_dim: int | None = 512,
        *,
        center_embeddings: bool | None = None,
        resize: str = "stretch",
        scale_features: bool = False,
        dropout: float = 0.0,
        motion: int = 0,
        rotation: bool = False,
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
        if resize not in RESIZES:
            raise ValueError(f"resize must be one of {RESIZES}. Received: {resize!r}")
        self.backbone = backbone
        self.quantizer = quantizer
        self.embedding_dim = embedding_dim
        is_vector_itself = backbone is None and embedding_dim is None
        self.center_embeddings = (
            not is_vector_itself if center_embeddings is None else center_embeddings
        )
        self.resize = resize
        self.scale_features = scale_features
        self.dropout = dropout
        self.motion = motion
        self.has_rotation = rotation
        self.num_classes = num_classes
        self.classified = classified
        self.classification_weight = classification_weight
        self.label_smoothing = label_smoothing
        self.classifier = None
        if num_classes is not None:
            self.classifier = Classifier(
                num_classes, classified, classification_weight, label_smoothing, name="classifier"
            )
        self.embedding = keras.Sequential(name="embedding")
        sizes = (quantizer.code_length, quantizer.num_codewords)
        self.codebook_metrics = [
            CodebookUsage(*sizes, name="codebook_usage"),
            CodebookPerplexity(*sizes, name="codebook_perplexity"),
        ]
        self._features = ItemFeatures(backbone, quantizer, motion)
        # A backbone that knows its input lets the network be complete from the start.
        if self._features.known_shape is not None:
            self.build(self._features.known_shape)

    @property
    def items(self) -> ItemSpec:
        """What the network embeds."""
        return self._features.items

    @property
    def rotation(self) -> keras.layers.Dense | None:
        """The layer without bias whose orthogonal matrix turns the embeddings, if there is one.

        Raises RuntimeError before the network is built.
        """
        if self.has_rotation and not self.built:
            raise RuntimeError("The rotation needs a network that is built: call it first")
        return self.embedding.get_layer(ROTATION) if self.has_rotation else None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of the images or frames that the network was built for.

        Of vectors `(dim,)`.

        Raises:
            RuntimeError: The network is not built yet, or takes images of any size.
        """
        shape = self._images_shape and self._features.image_axes(self._images_shape)
        if shape is None or None in shape:
            raise RuntimeError(
                "The network's image shape is not known. Expected a backbone with a fixed input "
                f"shape, or a call on a batch of images first. Received: {self._images_shape}"
            )
        return shape

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip, where the backbone fixes their number; else None."""
        shape = self._images_shape
        has_frames = self.items.batch_rank > IMAGES_RANK and not self.folds_frames
        return shape[-4] if shape is not None and has_frames else None

    @property
    def folds_frames(self) -> bool:
        """Whether the backbone is given the frames of clips as a batch of images."""
        return self._features.folds_frames

    _images_shape: tuple[Any, ...] | None = None
    # Of a network from a file: `trainable` of each of `_own_layers`.
    _saved_trainable: tuple[bool, ...] = ()

    def build(self, input_shape: Any) -> None:
        if self._images_shape is not None:
            return
        shape = tuple(read_batch(input_shape)[0])
        self._features.require_rank(len(shape))
        embedding_input = self._features.build(shape, self.compute_dtype)
        own_layers = embedding_layers(
            embedding_input,
            self.embedding_dim,
            center=self.center_embeddings,
            scale_features=self.scale_features,
            dropout=self.dropout,
            rotation=self.has_rotation,
        )
        embedding_shape = embedding_input
        for layer in own_layers:
            embedding_shape = layer.compute_output_shape(embedding_shape)
        # Deserialized from a file, the quantizer comes built.
        if not self.quantizer.built:
            self.quantizer.build(embedding_shape)
        if self.quantizer.embedding_dim != embedding_shape[-1]:
            raise ValueError(
                f"The quantizer is built for embeddings of length {self.quantizer.embedding_dim}. "
                f"Received: embedding_dim={embedding_shape[-1]}"
            )
        # Not before the quantizer fits them: the network may be built again for items that do.
        for layer in own_layers:
            self.embedding.add(layer)
        self.embedding.build(embedding_input)
        if self.classifier is not None:
            self.classifier.build(embedding_shape)
        self._freeze_own_layers()
        self._images_shape = shape
        self.built = True

    def _own_layers(self) -> list[layers.Layer]:
        """The layers that the network makes itself, a layer before those that it holds."""
        return [*flatten_layers(self.classifier), *flatten_layers(self.embedding)]

    def _freeze_own_layers(self) -> None:
        """Freeze what was frozen before it was built, and what was when the network was saved."""
        if not self.embedding.trainable:
            # Keras does not freeze the layers that are added later.
            self.embedding.trainable = False
        set_trainable(self._own_layers(), self._saved_trainable)

    def require_item_shape(self, item_shape: tuple[int, ...]) -> None:
        """Raises ValueError unless the network takes items of this shape, where that is known.

        Args:
            item_shape: `(height, width, channels)`, of clips with `num_frames` before; of vectors
                `(dim,)`.
        """
        self._features.require_item_shape(item_shape, self._images_shape)

    def embed(self, images: Tensor, training: bool = False) -> Tensor:
        """Embeddings `[batch, embedding_dim]` of images, in the form that search compares."""
        items, mask = read_batch(images)
        if not self.built:
            self.build(tuple(items.shape))
        features = self._features(items, mask, training)
        return self.quantizer.normalize(self.embedding(features, training=training))

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        embeddings = self.embed(images, training=training)
        quantization = self.quantizer.quantize_embeddings(embeddings, training=training)
        outputs = {
            "embeddings": embeddings,
            "quantized": quantization.reconstruction,
            "codes": quantization.codes,
        }
        if self.classifier is not None:
            outputs["logits"] = self.classifier.classify(outputs)
        return outputs

    def encode(self, images: Tensor) -> Tensor:
        """Codes `[batch, code_length]` of a batch of images."""
        return self.quantizer.encode(self.embed(images))

    def number(self, labels: Any) -> Any:
        if self.classifier is not None:
            self.classifier.require_classes(labels)
        return super().number(labels)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled loss of pairs `[batch, 2, embedding_dim]`, plus the classifier's."""
        if y_pred is None:
            return super().compute_loss(x, y, None, sample_weight, training=training)
        total = super().compute_loss(x, y, _pair(y_pred), sample_weight, training=training)
        if self.classifier is not None:
            total = total + self.classifier.loss(y, y_pred, sample_weight)
        return total

    def compute_metrics(
        self, x: Tensor, y: Tensor, y_pred: dict[str, Tensor], sample_weight: Tensor = None
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
            "resize": self.resize,
            "scale_features": self.scale_features,
            "dropout": self.dropout,
            "motion": self.motion,
            "rotation": self.has_rotation,
            "num_classes": self.num_classes,
            "classified": self.classified,
            "classification_weight": self.classification_weight,
            "label_smoothing": self.label_smoothing,
            "own_layers_trainable": read_trainable(self._own_layers()),
            "backbone_trainable": read_trainable(flatten_layers(self.backbone)),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProductQuantizationNetwork:
        config = dict(config)
        saved = tuple(config.pop("own_layers_trainable", ()))
        of_backbone = config.pop("backbone_trainable", ())
        for name in ("backbone", "quantizer"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        set_trainable(flatten_layers(config["backbone"]), of_backbone)
        network = cls(**config)
        # Before Keras compiles it: the optimizer's state is that of the trainable variables.
        network._saved_trainable = saved
        network._freeze_own_layers()
        return network


def _pair(y_pred: dict[str, Tensor]) -> Tensor:
    """What losses and metrics are given: raw and quantized embeddings `[batch, 2, dim]`."""
    return ops.stack([y_pred["embeddings"], y_pred["quantized"]], axis=1)
