"""All that a training run depends on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras

from tfpqn.datasets import ImageFolder, Splits, load_protocol, split_folder
from tfpqn.layers import ProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork, backbone_names, build_backbone

MODELS = ("pqn",)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of a run; two runs with equal settings and data end with equal weights.

    Attributes:
        protocol: Name of the protocol, or None to train on `images`.
        images: Folder with one subfolder of images per label, or None.
        image_size: Height and width that the images of a folder are brought to.
        model: Kind of network: "pqn".
        bits: Length of a code; a multiple of `num_subspaces`.
        num_subspaces: Codebooks; each has `2 ** (bits / num_subspaces)` codewords.
        embedding_dim: Length of the embedding; a multiple of `num_subspaces`.
        backbone: Name for `tfpqn.models.build_backbone`.
        weights: Weights for a `keras.applications` backbone.
        alpha: Hardness of the soft assignment.
        loss_form, loss_scale, loss_margin: Arguments of the asymmetric triplet loss.
        epochs, batch_size, learning_rate: Adam with cosine decay to zero over all epochs.
        augment: Whether to flip and shift the training images at random.
        seed: Seed of weights, order, augmentation and clustering.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    protocol: str | None = "digits"
    images: str | None = None
    image_size: int = 64
    model: str = "pqn"
    bits: int = 24
    num_subspaces: int = 4
    embedding_dim: int = 512
    backbone: str = "conv3"
    weights: str | None = None
    alpha: float = 5.0
    loss_form: str = "softplus"
    loss_scale: float = 4.0
    loss_margin: float = 0.0
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 3e-3
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.protocol is None) == (self.images is None):
            raise ValueError(
                "A run needs either a protocol or a folder of images. "
                f"Received: protocol={self.protocol!r}, images={self.images!r}"
            )
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {list(MODELS)}. Received: {self.model!r}")
        if self.bits < 1 or self.num_subspaces < 1 or self.bits % self.num_subspaces:
            raise ValueError(
                "bits must be a positive multiple of num_subspaces. "
                f"Received: bits={self.bits}, num_subspaces={self.num_subspaces}"
            )
        for name in ("image_size", "embedding_dim", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.embedding_dim % self.num_subspaces:
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={self.embedding_dim}, num_subspaces={self.num_subspaces}"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0 .. 2**32 - 1. Received: {self.seed}")
        if self.backbone not in backbone_names():
            raise ValueError(
                f"Unknown backbone. Expected one of {backbone_names()}. Received: {self.backbone!r}"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive. Received: {self.learning_rate}")
        # What they refuse is refused here, before any data is read.
        self._build_quantizer()
        self._build_loss()

    def load_splits(
        self, data_dir: str | Path | None = None, protocol: str | None = None
    ) -> Splits:
        """The data of these settings, or of another protocol.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets.
            protocol: Protocol to take instead.
        """
        name = protocol or self.protocol
        if name is not None:
            return load_protocol(name).load(data_dir)
        image_shape = (self.image_size, self.image_size, 3)
        return split_folder(ImageFolder(self.images or "", image_shape).readable())

    def build_network(self, image_shape: tuple[int, int, int], steps: int) -> Any:
        """The compiled network of these settings, with fresh weights from the seed.

        Args:
            image_shape: `(height, width, channels)`.
            steps: Steps in all, over which the learning rate falls to zero.
        """
        keras.utils.set_random_seed(self.seed)
        network = ProductQuantizationNetwork(
            build_backbone(self.backbone, image_shape, weights=self.weights),
            self._build_quantizer(),
            self.embedding_dim,
        )
        schedule = keras.optimizers.schedules.CosineDecay(self.learning_rate, steps)
        network.compile(
            keras.optimizers.Adam(schedule),
            self._build_loss(),
        )
        return network

    def _build_quantizer(self) -> ProductQuantization:
        num_codewords = 2 ** (self.bits // self.num_subspaces)
        return ProductQuantization(self.num_subspaces, num_codewords, self.alpha)

    def _build_loss(self) -> AsymmetricTripletLoss:
        return AsymmetricTripletLoss(self.loss_form, self.loss_scale, self.loss_margin)
