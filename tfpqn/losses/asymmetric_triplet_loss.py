"""Asymmetric triplet loss over every valid triplet of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.ops import find_first_row, gather_rows, label_relevance, number_labels

Tensor = Any

# Positives of each anchor handled at once: the largest temporary is
# [anchors, POSITIVES_PER_BLOCK, items].
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
    first_item: Any = 0,
) -> Tensor:
    """Loss of each anchor, the mean over its valid triplets.

    A triplet is a raw anchor `x_a`, a relevant quantized item `s_p` (other than the anchor itself)
    and an irrelevant quantized item `s_n`; its loss is
    `form(scale * (<x_a, s_n> - <x_a, s_p>) + margin)`. With the sigmoid and a scale of 1 that is
    the paper's Eq. 15, `sigmoid(<x_a, s_n> - <x_a, s_p>)`.

    The value and its derivative by each score are found block by block of positives, and only
    they are kept: memory grows with anchors * items, time with that times the most positives of an
    anchor. First-order gradients are exact; there are no second-order ones.

    Args:
        relevance: `[anchors, items]`, non-zero where anchor and item belong together.
        embeddings: Raw, intra-normalised anchors `[anchors, embedding_dim]`.
        quantized: Soft-quantized items `[items, embedding_dim]`, of which the anchors are some.
        form, scale, margin, hardness: As of `AsymmetricTripletLoss`.
        first_item: Which of the items is the first anchor; the others follow it in order. An
            integer, or a tensor of one.

    Returns:
        `[anchors]`; an anchor without a valid triplet has loss and gradient zero.

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018.
    """
    scores = ops.matmul(embeddings, ops.transpose(quantized))
    values, derivatives = _loss_and_derivative(
        ops.stop_gradient(scores),
        relevance=ops.cast(ops.not_equal(ops.cast(relevance, scores.dtype), 0.0), scores.dtype),
        first_item=first_item,
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
    first_item: Any,
    form: _Form,
    scale: float,
    margin: float,
    hardness: float,
) -> tuple[Tensor, Tensor]:
    """Per anchor the loss `[anchors]` and its derivative by each score `[anchors, items]`."""
    num_anchors, num_items = ops.shape(scores)
    itself = ops.arange(num_anchors)[:, None] + first_item
    not_itself = ops.cast(ops.not_equal(itself, ops.arange(num_items)), scores.dtype)
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
    near_slopes = _join_columns(near_slopes, num_items)
    slopes = slopes - ops.take_along_axis(near_slopes, ops.argsort(order, axis=1), 1)
    # Of an anchor without a triplet the sum is 0; of any other it is at least 1.
    weights = 1.0 / ops.maximum(weights, 1.0)
    return (
        ops.stop_gradient(weights * values),
        ops.stop_gradient(scale * weights[:, None] * slopes),
    )


def _largest_difference(scores: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Of each anchor the largest score difference of its triplets `[anchors, 1, 1]`, else 0.

    Taken off before `exp`, so that nothing overflows.
    """
    # Without an initial value Keras refuses a replica that has no anchor.
    far = ops.max(ops.where(negatives > 0, scores, -np.inf), axis=1, initial=-np.inf)
    near = ops.min(ops.where(positives > 0, scores, np.inf), axis=1, initial=np.inf)
    # On PyTorch the largest of no anchors is a scalar.
    largest = ops.where(ops.isfinite(far - near), far - near, ops.zeros_like(scores[:, 0]))
    return largest[:, None, None]


def _split_columns(matrix: Tensor) -> Tensor:
    """Cut `[anchors, items]` into `[blocks, anchors, POSITIVES_PER_BLOCK]`, padded with zeros."""
    num_anchors, num_items = ops.shape(matrix)
    # Not inferred from the size of the whole: a replica may have no anchor.
    num_blocks = -(-num_items // POSITIVES_PER_BLOCK)
    padded = ops.pad(matrix, ((0, 0), (0, num_blocks * POSITIVES_PER_BLOCK - num_items)))
    blocks = ops.reshape(padded, (num_anchors, num_blocks, POSITIVES_PER_BLOCK))
    return ops.transpose(blocks, (1, 0, 2))


def _join_columns(blocks: Tensor, num_items: Any) -> Tensor:
    """Undo `_split_columns`."""
    num_blocks, num_anchors, size = ops.shape(blocks)
    padded = ops.reshape(ops.transpose(blocks, (1, 0, 2)), (num_anchors, num_blocks * size))
    return padded[:, :num_items]


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
        if not math.isfinite(margin):
            raise ValueError(f"margin must be finite. Received: margin={margin}")
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
        relevance = label_relevance(y_true, gather_rows(y_true))
        return super().__call__(relevance, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        anchor, item = SIDES[self.sides]
        return asymmetric_triplet_loss(
            y_true,
            y_pred[:, anchor],
            gather_rows(y_pred[:, item]),
            form=self.form,
            scale=self.scale,
            margin=self.margin,
            hardness=self.hardness,
            first_item=find_first_row(y_pred),
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
