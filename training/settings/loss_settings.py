"""What a run minimises: triplets, and a classifier beside them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .setting import check_settings, setting

if TYPE_CHECKING:
    from tfpqn.losses import AsymmetricTripletLoss

INFINITY = float("inf")


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The asymmetric triplet loss and the classifier.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    form: str = setting("softplus", "sigmoid, softplus or hinge.", name="loss_form")
    scale: float = setting(2.0, "Factor on the score difference.", name="loss_scale")
    margin: float = setting(0.0, "Added to the scaled difference.", name="loss_margin")
    hardness: float = setting(0.0, "By which hard triplets weigh more.", name="loss_hardness")
    sides: str = setting(
        "asymmetric",
        "Anchors and items: asymmetric, or quantized or raw on both sides.",
        name="loss_sides",
    )
    weight: float = setting(
        1.0, "Weight of the triplet loss.", name="loss_weight", at_least=0, below=INFINITY
    )
    classification_weight: float | None = setting(
        None,
        "Weight of a classifier beside it; 0 for none.",
        default_text="1 where each item has one label",
        at_least=0,
        below=INFINITY,
    )
    classified: str = setting(
        "both",
        "What the classifier is given: quantized, embeddings or both.",
        choices=("quantized", "embeddings", "both"),
    )
    label_smoothing: float = setting(
        0.1, "Share of the classifier's target that is spread over all labels."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.weight and self.classification_weight == 0:
            raise ValueError(
                "loss_weight and classification_weight must not both be 0. "
                f"Received: {self.weight}, {self.classification_weight}"
            )
        self.build()

    def build(self) -> AsymmetricTripletLoss:
        """The triplet loss."""
        from tfpqn.losses import AsymmetricTripletLoss

        return AsymmetricTripletLoss(
            self.form, self.scale, self.margin, hardness=self.hardness, sides=self.sides
        )

    def chance(self) -> float:
        """The triplet loss of a network whose scores are all equal."""
        from keras import ops

        from tfpqn.losses.asymmetric_triplet_loss import FORMS

        return float(
            ops.convert_to_numpy(FORMS[self.form].value(ops.convert_to_tensor(self.margin)))
        )
