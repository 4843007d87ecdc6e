"""How a run's weights are moved, and for how long."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from .setting import check_settings, setting

if TYPE_CHECKING:
    import keras

MOMENTUM = 0.9
# Optimizer -> its largest learning rate from random weights.
LEARNING_RATES = {"adam": 1e-3, "sgd": 0.1}
# Images and frames that training sees unless told: some five minutes on two cores, at 64 pixels.
# Few items are seen often, and a large set still FEWEST_EPOCHS times.
IMAGES_SEEN = 100_000
FEWEST_EPOCHS = 20
MOST_EPOCHS = 100


@dataclasses.dataclass(frozen=True)
class OptimizationSettings:
    """Optimizer, learning rates and epochs.

    The learning rate rises over `warmup_epochs` and falls to zero by a cosine over all epochs.
    Without epochs, k-means finds codebooks for the embeddings as they are, and that is all. Up to
    each number of `earlier_epochs` a run has the learning rates of a run of so many epochs; after
    it, at once, those of a run of the next number. `Run.start` enters it where a run is prolonged.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    optimizer: str = setting(
        "adam", "adam, or sgd with a momentum of 0.9.", choices=tuple(LEARNING_RATES)
    )
    weight_decay: float = setting(
        5e-3, "Share of a kernel taken away per unit of learning rate.", at_least=0, below=1
    )
    epochs: int | None = setting(
        None,
        "Passes over the training images; 0 fits codebooks alone.",
        default_text=f"what shows {IMAGES_SEEN:,} images, from {FEWEST_EPOCHS} to {MOST_EPOCHS}",
        at_least=0,
    )
    learning_rate: float | None = setting(
        None,
        "At its largest.",
        default_text="0.001, with sgd 0.1; a tenth from trained weights",
        above=0,
    )
    warmup_epochs: float = setting(
        0.5, "Epochs in which the learning rate rises; they count as epochs.", at_least=0
    )
    earlier_epochs: tuple[int, ...] = setting(
        (), "Numbers of epochs that the run ended with before it was given more.", has_option=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "earlier_epochs", tuple(self.earlier_epochs))
        check_settings(self)
        if self.epochs is None:
            return
        most = max(self.epochs, 1)
        if self.warmup_epochs >= most:
            raise ValueError(
                f"warmup_epochs must be below {most}, the number of epochs. "
                f"Received: {self.warmup_epochs}"
            )
        numbers = (self.warmup_epochs, *self.earlier_epochs, self.epochs)
        if self.earlier_epochs and any(a >= b for a, b in itertools.pairwise(numbers)):
            raise ValueError(
                f"earlier_epochs must rise from above warmup_epochs={self.warmup_epochs} to below "
                f"epochs={self.epochs}. Received: {self.earlier_epochs}"
            )

    def build(self, network: keras.Model, steps: int) -> keras.optimizers.Optimizer:
        """The optimizer of a network that takes so many steps in all."""
        import keras

        warmup = round(self.warmup_epochs / max(self.epochs or 0, 1) * steps)
        rise = {"warmup_target": self.learning_rate, "warmup_steps": warmup} if warmup else {}
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else self.learning_rate, max(steps - warmup, 1), **rise
        )
        settings: dict[str, Any] = {"weight_decay": self.weight_decay or None}
        if self.optimizer == "sgd":
            optimizer = keras.optimizers.SGD(schedule, MOMENTUM, nesterov=True, **settings)
        else:
            optimizer = keras.optimizers.Adam(schedule, **settings)
        if self.weight_decay:
            others = [v for v in network.trainable_variables if not v.path.endswith("kernel")]
            optimizer.exclude_from_weight_decay(var_list=others)
        return optimizer
