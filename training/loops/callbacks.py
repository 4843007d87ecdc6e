"""Keras callbacks for both ways of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tfpqn.codebooks.initialization import embed_batches
from tfpqn.codebooks.revival import revive_codewords
from tfpqn.datasets import Splits
from tfpqn.layers.quantizer import require_at_least
from tfpqn.protocols import NetworkLike

from ..encoding import encode_set, sample_queries
from ..evaluation import evaluate_encoded

# After so many epochs a training that learns has a lower loss than one that has not begun.
JUDGED_EPOCH = 3


class ReviveCodewords(keras.callbacks.Callback):
    """After each epoch, moves codewords that no image chooses onto poorly quantized images.

    Args:
        images: A function that gives batches of images `[batch, height, width, channels]`.
        last_epoch: Number of the last epoch after which codewords are moved; leave the final epochs
            out, so that moved codewords are trained. None for all epochs.
        seed: Seed of the draw; together with the epoch it fixes the outcome.

    Attributes:
        num_revived: How many codewords were moved after each epoch so far.
    """

    def __init__(
        self,
        images: Callable[[], Iterable[np.ndarray]],
        *,
        last_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.images = images
        self.last_epoch = last_epoch
        self.seed = seed
        self.num_revived: list[int] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.last_epoch is not None and epoch > self.last_epoch:
            return
        embeddings = embed_batches(self.model, self.images())
        rng = np.random.default_rng([self.seed, epoch])
        revived = revive_codewords(self.model.quantizer, embeddings, rng)
        self.num_revived.append(revived)
        if logs is not None:
            logs["codewords_revived"] = float(revived)


class WarnOfFailure(keras.callbacks.Callback):
    """Warns once, after the third epoch, of a loss above that of knowing nothing.

    Args:
        chance: The loss of a network whose scores and logits are all equal.
        advice: What to try, for the end of the message.
    """

    def __init__(self, chance: float, advice: str) -> None:
        super().__init__()
        self.chance = chance
        self.advice = advice

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if epoch + 1 == JUDGED_EPOCH and loss > self.chance:
            warnings.warn(
                f"After {JUDGED_EPOCH} epochs the loss is {loss:.3f}; a network that knows nothing "
                f"has {self.chance:.3f}. This training fails. Try {self.advice}",
                stacklevel=2,
            )


class EvaluateRetrieval(keras.callbacks.Callback):
    """Adds the mAP of hard codes and of raw embeddings to the logs of every n-th epoch.

    Args:
        splits: `query` and `database` are ranked in full.
        every: Number of epochs between evaluations; the n-th, 2n-th, .. epoch is evaluated.
        max_queries: Of more queries so many are taken, evenly spread; None for all.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(self, splits: Splits, every: int = 1, max_queries: int | None = None) -> None:
        super().__init__()
        require_at_least("every", every, 1)
        self.splits = sample_queries(splits, max_queries)
        self.every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None or (epoch + 1) % self.every:
            return
        add_retrieval(self.model, self.splits, logs)


def add_retrieval(
    network: NetworkLike, splits: Splits, logs: dict[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """Add the mAP of hard codes and of raw embeddings to the logs, unless labels tell nothing.

    Returns:
        What `evaluate` measures, and the codes of the database, `[items, code_length]`.
    """
    query, database = (encode_set(network, part) for part in (splits.query, splits.database))
    figures = evaluate_encoded(network.quantizer, query, database)
    if figures["mAP"] is not None:
        logs["mAP"] = figures["mAP"]
        logs["raw_mAP"] = figures["raw_embeddings"]["mAP"]
    return figures, database.codes
