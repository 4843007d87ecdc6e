"""All that a training run depends on."""

from __future__ import annotations

import dataclasses
import functools
import random
import typing
from typing import TYPE_CHECKING, Any

from tfpqn.items import CLIPS, VECTORS, ItemSpec

from .chosen_settings import choose_settings
from .code_settings import DEFAULT_MODEL, MODELS
from .data_settings import IMAGE_SIZE, SOURCES, UNAUGMENTED, DataSettings
from .loss_settings import LossSettings
from .model_settings import ModelSettings
from .optimization_settings import (
    LEARNING_RATES,
    OptimizationSettings,
)
from .setting import check_settings, name_of, setting

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet

# Settings that `RunConfig.for_items` chooses where they are None.
LEFT_TO_DATA = (
    *("epochs", "batch_size", "classification_weight", "max_shift"),
    *("model", "bits", "similarity", "num_levels", "num_subspaces", "beam_size"),
)
# Of features that others have made, which training would learn by heart.
FEATURE_DROPOUT = 0.2
# The method by itself: what recipes build on, and what settings of older versions mean where they
# say nothing. A change of the defaults must reach neither.
PLAIN: dict[str, Any] = {
    "model": "pqn",
    "motion": 0,
    "num_segments": (2,),
    "image_size": IMAGE_SIZE,
    "backbone": "conv3",
    "freeze_backbone": False,
    "scale_features": False,
    "dropout": 0.0,
    "bits": 24,
    "beam_size": 1,
    "similarity": "subspace",
    "whiten": False,
    "unit_codewords": True,
    "soft_codes": False,
    "loss_scale": 4.0,
    "classification_weight": 0.0,
    "classified": "quantized",
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "warmup_epochs": 0.0,
    "augment": False,
    "max_shift": 2,
    "samples_per_class": 0,
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of a run; two runs with equal settings and data end with equal weights.

    Each setting also has one name among all, under which `of`, `replace`, recipes and the options
    of `tfpqn train` know it: `RunConfig.of(bits=48, images="photos").model.bits`.

    Attributes:
        data: The items, and how batches are drawn of them.
        model: Backbone, embedding and quantizer.
        loss: Triplets, and a classifier beside them.
        optimization: Optimizer, learning rates and epochs.
        seed: Seed of weights, order, augmentation and clustering.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    loss: LossSettings = dataclasses.field(default_factory=LossSettings)
    optimization: OptimizationSettings = dataclasses.field(default_factory=OptimizationSettings)
    seed: int = setting(0, "Seed of all that is random.", at_least=0, below=2**32)

    def __post_init__(self) -> None:
        check_settings(self)
        self._fill_in()
        self._check_items()
        if self.data.views > 1 and self.loss.classification_weight:
            raise ValueError(
                "views above 1 train without labels, and a classifier needs them. Received: "
                f"views={self.data.views}, classification_weight={self.loss.classification_weight}"
            )

    @classmethod
    def of(cls, **settings: Any) -> RunConfig:
        """The settings of these names; all others have their defaults.

        Raises:
            TypeError: There is no setting of a name.
            ValueError: A setting is out of range or does not fit the others.
        """
        parts = _by_section(settings)
        return cls(
            **{name: section(**parts.pop(name, {})) for name, section in SECTIONS.items()},
            **parts.pop("", {}),
        )

    @classmethod
    def plain(cls, **settings: Any) -> RunConfig:
        """The method by itself (`PLAIN`) but for the given settings, such as a recipe's."""
        return cls.of(**{**PLAIN, **settings})

    def replace(self, **settings: Any) -> RunConfig:
        """These settings with others in place of those of the given names."""
        parts = _by_section(settings)
        changed = {
            name: dataclasses.replace(getattr(self, name), **values)
            for name, values in parts.items()
            if name
        }
        return dataclasses.replace(self, **changed, **parts.get("", {}))

    def flat(self) -> dict[str, Any]:
        """The value of each setting by its name; tuples are lists, as JSON has them."""
        values = {
            name: getattr(getattr(self, section) if section else self, field.name)
            for name, (section, field) in settings_by_name().items()
        }
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}

    @property
    def num_epochs(self) -> int:
        """The number of epochs, where it is not left open."""
        if self.optimization.epochs is None:
            raise ValueError(
                "epochs must be a number by now: give one, or let for_items choose it. "
                "Received: epochs=None"
            )
        return self.optimization.epochs

    @property
    def stages(self) -> list[RunConfig]:
        """The settings of each run that this one prolongs, then its own, as runs by themselves."""
        numbers = (*self.optimization.earlier_epochs, self.num_epochs)
        return [self.replace(epochs=number, earlier_epochs=()) for number in numbers]

    def open_as(self, other: RunConfig) -> RunConfig:
        """These settings with those of another run where they leave open what data decides."""
        mine, others = self.flat(), other.flat()
        return self.replace(**{name: others[name] for name in LEFT_TO_DATA if mine[name] is None})

    def for_items(self, items: ImageSet) -> RunConfig:
        """These settings with what they leave open chosen for the items.

        Batches of 64, or of all images if there are fewer; so many epochs that training sees
        100,000 images or frames (of clips with motion, images of motion), but 20 at least and 100
        at most; a classifier where each item has one label; and shifts of at most a sixteenth of a
        side.

        Args:
            items: What the network is trained on.
        """
        mine = self.flat()
        chosen = choose_settings(self, items)
        return self.replace(**{name: chosen[name] for name in chosen if mine[name] is None})

    def build_network(
        self, image_shape: tuple[int, ...], steps: int, num_classes: int | None = None
    ) -> Any:
        """The compiled network of these settings, with fresh weights from the seed.

        Args:
            image_shape: `(height, width, channels)`; `(dim,)` for a network of vectors.
            steps: Steps in all, over which the learning rate falls to zero.
            num_classes: Number of classes, for a classifier.

        Raises:
            ValueError: A classifier is wanted, and there are no classes.
        """
        from tfpqn.models import ProductQuantizationNetwork, build_backbone, mirrored
        from tfpqn.models.trainable_layers import freeze_first_layers

        model, loss = self.model, self.loss
        weight = loss.classification_weight
        if weight is None:
            weight = float(num_classes is not None)
        if weight and num_classes is None:
            raise ValueError(
                "classification_weight needs items of one label each. "
                f"Received: classification_weight={weight} for others"
            )
        seed_keras(self.seed)
        has_features = model.weights is not None or not self.data.items.has_pixels
        is_learned = has_features and not model.is_fitted
        scales = has_features and model.width is not None
        is_plain = model.normalization == "batch"
        options = {} if is_plain else {"normalization": model.normalization}
        backbone = None
        if len(image_shape) > 1:
            backbone = build_backbone(
                model.backbone,
                (*image_shape[:-1], image_shape[-1] * (2 * (model.motion or 0) or 1)),
                weights=model.weights,
                dtype=model.precision,
                image_size=self.data.image_size if model.weights else None,
                **options,
            )
            freeze_first_layers(backbone, model.fine_tune or 1.0)
            backbone = mirrored(backbone) if model.mirror else backbone
        network = ProductQuantizationNetwork(
            backbone,
            model.build_quantizer(is_trained=self.optimization.epochs != 0),
            model.width,
            center_embeddings=model.center_embeddings and not model.is_fitted,
            motion=model.motion or 0,
            rotation=model.rotation is not None,
            num_classes=num_classes if weight else None,
            classified="embeddings" if loss.sides == "raw" else loss.classified,
            classification_weight=weight,
            label_smoothing=loss.label_smoothing,
            resize=self.data.resize,
            scale_features=scales if model.scale_features is None else model.scale_features,
            dropout=FEATURE_DROPOUT * is_learned if model.dropout is None else model.dropout,
        )
        if not network.built:
            network.build((None, *image_shape))
        optimizer = self.optimization.build(network, steps)
        network.compile(optimizer, loss.build(), loss_weights=loss.weight)
        return network

    def _fill_in(self) -> None:
        """Settle what one part of the settings leaves to another."""
        if not any(getattr(self.data, name) for name in SOURCES):
            protocol = "moving-digits" if CLIPS in self.model.items else "digits"
            data = dataclasses.replace(self.data, protocol=protocol)
            object.__setattr__(self, "data", data)
        if self.data.image_size is None and self.model.weights is not None:
            from tfpqn.models.backbones import image_size_of

            data = dataclasses.replace(
                self.data, image_size=image_size_of(self.model.backbone, self.model.weights)
            )
            object.__setattr__(self, "data", data)
        if self.optimization.learning_rate is None:
            rate = LEARNING_RATES[self.optimization.optimizer]
            is_start = self.model.freeze_backbone or self.model.weights is None
            is_start = is_start and self.model.initial_run is None
            # Large steps would undo trained weights.
            rate = rate if is_start else rate / 10
            optimization = dataclasses.replace(self.optimization, learning_rate=rate)
            object.__setattr__(self, "optimization", optimization)

    def _check_items(self) -> None:
        items: ItemSpec = self.data.items
        if items not in self.model.items:
            models = [kind for kind, takes in MODELS.items() if items in takes]
            source = self.data.protocol or items.source
            raise ValueError(
                f"model must be one of {models} for {source!r}, whose items are {items.kind}. "
                f"Received: {self.model.kind or DEFAULT_MODEL!r}"
            )
        if items is VECTORS and self.model.weights:
            raise ValueError(
                "weights are those of a backbone, and vectors need none. "
                f"Received: weights={self.model.weights!r}"
            )
        differing = [name for name in UNAUGMENTED if getattr(self.data, name) != UNAUGMENTED[name]]
        if differing and self.model.freeze_backbone:
            raise ValueError(
                f"{differing[0]} changes images in training, and a frozen backbone sees each once, "
                "as it is: give fine_tune, the share of its layers that learn. "
                f"Received: {differing[0]}={getattr(self.data, differing[0])}, freeze_backbone=True"
            )
        if self.data.num_frames is not None and items is not CLIPS:
            raise ValueError(
                "num_frames is for clips alone. "
                f"Received: num_frames={self.data.num_frames}, "
                f"model={self.model.kind or DEFAULT_MODEL!r}"
            )


SECTIONS: dict[str, Any] = {
    "data": DataSettings,
    "model": ModelSettings,
    "loss": LossSettings,
    "optimization": OptimizationSettings,
}


@functools.cache
def settings_by_name() -> dict[str, tuple[str, dataclasses.Field[Any]]]:
    """Name of each setting -> the part of `RunConfig` that has it, "" for itself, and the field."""
    fields = {
        name_of(field): (name, field)
        for name, section in SECTIONS.items()
        for field in dataclasses.fields(section)
    }
    (seed,) = (field for field in dataclasses.fields(RunConfig) if field.metadata)
    return {**fields, seed.name: ("", seed)}


@functools.cache
def types_by_name() -> dict[str, Any]:
    """Name of each setting -> its type."""
    hints = {name: typing.get_type_hints(section) for name, section in SECTIONS.items()}
    hints[""] = {"seed": int}
    return {name: hints[part][field.name] for name, (part, field) in settings_by_name().items()}


def seed_keras(seed: int) -> None:
    """`keras.utils.set_random_seed`, without the import of TensorFlow on another backend.

    There Keras seeds weights and layers by Python's own generator.
    """
    import keras
    import numpy as np

    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    else:
        random.seed(seed)
        np.random.seed(seed)
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)


def _by_section(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Part of `RunConfig` -> name of its field -> value."""
    known = settings_by_name()
    if unknown := sorted(settings.keys() - known.keys()):
        raise TypeError(f"A setting must be one of {sorted(known)}. Received: {unknown}")
    parts: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, field = known[name]
        parts.setdefault(section, {})[field.name] = value
    return parts
