"""Asymmetric triplet loss over every valid triplet of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.ops import label_relevance, number_labels

Tensor = Any

# Positives of each anchor handled at once: the largest temporary is
# [batch, POSITIVES_PER_BLOCK, batch].
POSITIVES_PER_BLOCK = 8


class _Form(NamedTuple):
    """A loss of one triplet as a function of `scale * (negative - positive) + margin`."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _sigmoid_derivative(x: Tensor) -> Tensor:
    probability = ops.sigmoid(x)
    return probability * (1.0 - probability)


FORMS = {
    "sigmoid": _Form(ops.sigmoid, _sigmoid_derivative),
    "softplus": _Form(ops.softplus, ops.sigmoid),
    "hinge": _Form(ops.relu, lambda x: ops.cast(x > 0, x.dtype)),
}

# What trains best from nothing (docs/method.md). The paper's form is a sigmoid, scale 1.
DEFAULT_FORM = "softplus"
DEFAULT_SCALE = 2.0

# Which of raw (0) and quantized (1) embeddings stand for anchor and item.
SIDES = {"asymmetric": (0, 1), "quantized": (1, 1), "raw": (0, 0)}


def asymmetric_triplet_loss(
    relevance: Tensor,
    embeddings: Tensor,
    quantized: Tensor,
    *,
    form: str = DEFAULT_FORM,
    scale: float = DEFAULT_SCALE,
    margin: float = 0.0,
    hardness: float = 0.0,
) -> Tensor:
    """Loss of each anchor, the mean over its valid triplets.

    A triplet is a raw anchor `x_a`, a relevant quantized item `s_p` (other than the anchor itself)
    and an irrelevant quantized item `s_n`; its loss is
    `form(scale * (<x_a, s_n> - <x_a, s_p>) + margin)`. With the sigmoid and a scale of 1 that is
    the paper's Eq. 15, `sigmoid(<x_a, s_n> - <x_a, s_p>)`.

    The value and its derivative by each score are found block by block of positives, and only
    they are kept: memory grows with batch^2, time with batch^2 times the most positives of an
    anchor. First-order gradients are exact; there are no second-order ones.

    Args:
        relevance: `[batch, batch]`, non-zero where row and column item belong together.
        embeddings: Raw, intra-normalised anchors `[batch, embedding_dim]`.
        quantized: Soft-quantized items `[batch, embedding_dim]`.
        form, scale, margin, hardness: As of `AsymmetricTripletLoss`.

    Returns:
        `[batch]`; an anchor without a valid triplet has loss and gradient zero.

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018.
    """
    scores = ops.matmul(embeddings, ops.transpose(quantized))
    values, derivatives = _loss_and_derivative(
        ops.stop_gradient(scores),
        relevance=ops.cast(ops.not_equal(ops.cast(relevance, scores.dtype), 0.0), scores.dtype),
        form=FORMS[form],
        scale=scale,
        margin=margin,
        hardness=hardness,
    )
    # Equal to `values` in value; its gradient by `scores` is `derivatives`.
    return values + ops.sum(derivatives * (scores - ops.stop_gradient(scores)), axis=1)


def _loss_and_derivative(
    scores: Tensor,
    relevance: Tensor,
    form: _Form,
    scale: float,
    margin: float,
    hardness: float,
) -> tuple[Tensor, Tensor]:
    """Per anchor the loss `[batch]` and its derivative by each score `[batch, batch]`."""
    batch = ops.shape(scores)[0]
    not_itself = 1.0 - ops.eye(batch, dtype=scores.dtype)
    positives = relevance * not_itself
    negatives = (1.0 - relevance) * not_itself
    # Each anchor's positives stand first: blocks after those of the anchor with most are skipped,
    # of ten classes most of them.
    order = ops.argsort(-positives, axis=1)
    largest = _largest_difference(scores, positives, negatives) if hardness else 0.0

    near_scores, near = (
        _split_columns(ops.take_along_axis(x, order, 1)) for x in (scores, positives)
    )
    used_blocks = ops.sum(ops.cast(ops.any(near > 0, axis=(1, 2)), "int32"))
    block_numbers = ops.arange(ops.shape(near)[0])[:, None, None]

    def add_block(block: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        # [anchor, positive, negative]
        raw = scores[:, None, :] - ops.take(near_scores, block, axis=0)[:, :, None]
        shares = ops.take(near, block, axis=0)[:, :, None] * negatives[:, None, :]
        if hardness:
            shares = shares * ops.exp(hardness * ops.minimum(raw - largest, 0.0))
        differences = scale * raw + margin
        slopes = shares * form.derivative(differences)
        added = (
            ops.sum(shares, axis=(1, 2)),
            ops.sum(shares * form.value(differences), axis=(1, 2)),
            ops.sum(slopes, axis=1),
            ops.where(ops.equal(block_numbers, block), ops.sum(slopes, axis=2), 0.0),
        )
        return block + 1, *(x + y for x, y in zip(sums, added, strict=True))

    _, weights, values, slopes, near_slopes = ops.while_loop(
        lambda block, *_: block < used_blocks,
        add_block,
        (0, *(ops.zeros_like(x) for x in (scores[:, 0], scores[:, 0], scores, near))),
    )
    near_slopes = ops.reshape(ops.transpose(near_slopes, (1, 0, 2)), (batch, -1))[:, :batch]
    slopes = slopes - ops.take_along_axis(near_slopes, ops.argsort(order, axis=1), 1)
    # Of an anchor without a triplet the sum is 0; of any other it is at least 1.
    weights = 1.0 / ops.maximum(weights, 1.0)
    return (
        ops.stop_gradient(weights * values),
        ops.stop_gradient(scale * weights[:, None] * slopes),
    )


def _largest_difference(scores: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Of each anchor the largest score difference of its triplets `[batch, 1, 1]`, 0 without any.

    Taken off before `exp`, so that nothing overflows.
    """
    far = ops.max(ops.where(negatives > 0, scores, -np.inf), axis=1)
    near = ops.min(ops.where(positives > 0, scores, np.inf), axis=1)
    largest = ops.where(ops.isfinite(far - near), far - near, 0.0)
    return largest[:, None, None]


def _split_columns(matrix: Tensor) -> Tensor:
    """Cut `[batch, batch]` into `[blocks, batch, POSITIVES_PER_BLOCK]`, padding with zeros."""
    batch = ops.shape(matrix)[0]
    padded = ops.pad(matrix, ((0, 0), (0, (-batch) % POSITIVES_PER_BLOCK)))
    return ops.transpose(ops.reshape(padded, (batch, -1, POSITIVES_PER_BLOCK)), (1, 0, 2))


@keras.saving.register_keras_serializable(package="tfpqn")
class AsymmetricTripletLoss(keras.losses.Loss):
    """Asymmetric triplet loss: raw anchors against quantized positives and negatives.

    It trains exactly the comparison that search makes, over every valid triplet of the batch. For
    each anchor the mean over its triplets is taken; sample weights weigh anchors.

    Args:
        form: `"softplus"`, `"sigmoid"` (the paper's) or `"hinge"`. A softplus keeps its slope where
            a triplet is far off; a sigmoid gives such triplets up.
        scale: Positive factor on the score difference. The paper's form has 1. Larger values
            sharpen the loss, and make its steps larger.
        margin: Added to the scaled difference; the paper's form has none.
        hardness: Above 0, an anchor's triplets weigh as `exp(hardness * (<x_a, s_n> - <x_a, s_p>))`
            does instead of all the same; the weights themselves are constants to the gradient.
        sides: Which forms of anchor and item are compared: `"asymmetric"` raw and quantized,
            `"quantized"` both quantized, `"raw"` both raw. With the last the loss does not know
            the quantizer: an ordinary triplet loss, to train an embedding alone.
        reduction, name, dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels `[batch]` of any integer dtype, compared in that dtype, or multi-hot
            labels `[batch, num_labels]`; relevant means at least one shared label.
        y_pred: `[batch, 2, embedding_dim]`: the raw and the quantized embedding of each item, as
            `ProductQuantizationNetwork` hands them to its loss.
        sample_weight: Optional `[batch]`.

    Raises:
        ValueError: An argument is out of range, or the labels do not fit the predictions.

    Example:

    >>> pairs = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, 1], [-1, 0]]], "float32")
    >>> as_published = tfpqn.losses.AsymmetricTripletLoss("sigmoid", scale=1.0, reduction=None)
    >>> [round(float(loss), 3) for loss in as_published(np.array([0, 0, 1]), pairs)]
    [0.119, 0.269, 0.0]
    """

    def __init__(
        self,
        form: str = DEFAULT_FORM,
        scale: float = DEFAULT_SCALE,
        margin: float = 0.0,
        *,
        hardness: float = 0.0,
        sides: str = "asymmetric",
        reduction: str = "sum_over_batch_size",
        name: str = "asymmetric_triplet_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if form not in FORMS:
            raise ValueError(f"form must be one of {sorted(FORMS)}. Received: form={form!r}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite. Received: scale={scale}")
        if not 0 <= hardness < float("inf"):
            raise ValueError(
                f"hardness must be finite and at least 0. Received: hardness={hardness}"
            )
        if sides not in SIDES:
            raise ValueError(f"sides must be one of {sorted(SIDES)}. Received: sides={sides!r}")
        self.form = form
        self.scale = scale
        self.margin = margin
        self.hardness = hardness
        self.sides = sides

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        y_true = ops.convert_to_tensor(number_labels(y_true))
        y_pred = ops.convert_to_tensor(y_pred)
        _check_shapes(tuple(y_true.shape), tuple(y_pred.shape))
        # keras.losses.Loss casts labels to float32, in which ids beyond 2**24 merge. What goes
        # through that cast here is the relevance of each pair, 0 or 1.
        return super().__call__(label_relevance(y_true, y_true), y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        anchor, item = SIDES[self.sides]
        return asymmetric_triplet_loss(
            y_true,
            y_pred[:, anchor],
            y_pred[:, item],
            form=self.form,
            scale=self.scale,
            margin=self.margin,
            hardness=self.hardness,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "scale": self.scale,
            "margin": self.margin,
            "hardness": self.hardness,
            "sides": self.sides,
        }


def _check_shapes(labels: tuple[int | None, ...], predictions: tuple[int | None, ...]) -> None:
    if len(predictions) != 3 or predictions[1] not in (2, None):
        raise ValueError(
            "y_pred must have shape [batch, 2, embedding_dim] (raw and quantized embeddings). "
            f"Received: {predictions}"
        )
    if not labels or None not in (labels[0], predictions[0]) and labels[0] != predictions[0]:
        raise ValueError(
            "y_true must hold one label for each item of y_pred. Received: labels of shape "
            f"{labels} for a batch of {predictions[0]}"
        )
