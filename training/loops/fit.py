"""Training of a compiled network that goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from tfpqn.datasets import TrainingBatches

from .checkpoint import Schedule

if keras.backend.backend() == "tensorflow":
    from .tensorflow_loop import train_by_steps as train_network
else:
    from .keras_loop import train_by_epochs as train_network


def fit(
    network: keras.Model,
    batches: TrainingBatches | Callable[[int], Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int | None = None,
    log_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a compiled network: on TensorFlow by a loop of its own, elsewhere by `network.fit`.

    With `checkpoint_dir`, a run that was killed at any moment and is started again by the same call
    goes on from its last checkpoint and ends with the same weights as a run that was not killed,
    provided that `batches` gives the same batches for the same steps, and the backend the same
    results for the same values.

    A network that was built and compiled in the scope of `tf.distribute.MirroredStrategy` or
    `MultiWorkerMirroredStrategy` is trained by all its replicas. They share each batch equally, and
    find the losses and gradients that one replica would find; random numbers of layers, such as
    dropout, differ. Every worker makes the same call, with the same folders: the first one writes.

    Args:
        network: A compiled `ProductQuantizationNetwork`.
        batches: `TrainingBatches`, of which a worker reads its own rows alone; or a function from a
            step to the endless stream of `(images, labels)` or `(images, labels, sample_weights)`
            that begins at that step, for all replicas: on TensorFlow a `tf.data.Dataset`, elsewhere
            arrays.
        epochs: Number of epochs to reach in all.
        steps_per_epoch: Steps that make an epoch.
        checkpoint_dir: Folder of the checkpoint; None keeps none.
        checkpoint_every: Steps between checkpoints, on TensorFlow alone; each epoch's end has one.
        log_dir: Folder of TensorBoard's scalars, which TensorFlow writes; None writes none.
        callbacks: Keras callbacks. On TensorFlow, those of training, epochs and batches are called.
        progress: Whether to show on stderr how far it is: by a bar, or where there is no terminal
            by a line an epoch.

    Returns:
        One dict a finished epoch: epoch, mean loss and metrics, learning rate, what callbacks add,
        and the seconds it took (since the resumption, for an epoch that was interrupted).

    Raises:
        RuntimeError: The network is not compiled.
        ConnectionError: Another worker has ended before the training.
        ValueError: The loss became NaN or infinite (the last checkpoint is from before it), the
            checkpoint is damaged or another network's, the replicas cannot share a batch equally,
            or workers see different checkpoints.
    """
    if not network.compiled:
        raise RuntimeError("network must be compiled before training. Call network.compile first")
    schedule = Schedule(
        epochs, steps_per_epoch, checkpoint_dir, checkpoint_every, log_dir, callbacks, progress
    )
    return train_network(network, batches, schedule)
