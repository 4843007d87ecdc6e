"""Training of a run to its end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfpqn.datasets import ImageSet, Splits, TrainingBatches

from .callbacks import EvaluateRetrieval, ReviveCodewords
from .fitting import fit
from .initialization import initialize_codebooks, settle_codebooks
from .machine import note_machine
from .runs import Run

# Images per codeword for k-means and for the search for dead codewords, and the least in all.
SAMPLES_PER_CODEWORD = 16
FEWEST_SAMPLES = 2048
# Queries of an evaluation between epochs.
CURVE_QUERIES = 1000
# Embeddings of so many are held at once, after training.
SETTLED_ITEMS = 2**16


def train(
    run: Run,
    splits: Splits,
    *,
    checkpoint_every: int | None = 200,
    evaluate_every: int | None = None,
    progress: bool = True,
) -> Any:
    """Train a run to its end, going on from its last checkpoint if it has one.

    With `freeze_codebooks` the codebooks stay those of the initial run, bit by bit: no k-means, no
    revival, and `network.quantizer.trainable` is False. The same holds in plain Keras: set
    `network.quantizer.trainable = False` before `compile`, and `fit` leaves the codebooks alone.

    Where half precision is much slower than float32, the latter takes its place, with a warning;
    `machine.json` in the run's folder says so, and a run goes on in the precision it began with.

    Args:
        run: From `Run.start`.
        splits: The data; `train` is used.
        checkpoint_every: Steps between checkpoints; on another backend than TensorFlow each epoch's
            end has one, and no other.
        evaluate_every: Epochs between evaluations, of at most 1,000 queries, whose mAP goes into
            the history; None for none.
        progress: Whether to show a progress bar.

    Returns:
        The trained network, which is also saved in the run's folder; of a run that was trained
        before, as `run.load_network()` loads it.

    Raises:
        ValueError: The data does not fit the settings, the initial run's network is another, or
            the loss became NaN.
    """
    if run.is_trained:
        return run.load_network()
    precision = note_machine(run.folder, run.config)["precision"]
    config = dataclasses.replace(run.config, precision=precision)
    batches = TrainingBatches(
        splits.train,
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        max_shift=config.max_shift,
        min_area=config.min_area,
        cutout=config.cutout,
        color_jitter=config.color_jitter,
        views=config.views,
        samples_per_class=config.samples_per_class,
    )
    network = config.build_network(
        splits.train.image_shape,
        config.epochs * batches.steps_per_epoch,
        _count_classes(splits.train.labels),
    )
    network.quantizer.trainable = not config.freeze_codebooks
    checkpoint_dir = run.folder / "checkpoints"
    num_samples = max(FEWEST_SAMPLES, SAMPLES_PER_CODEWORD * network.quantizer.num_codewords)
    if not config.epochs:
        # K-means alone has the time to look at all.
        num_samples = len(splits.train)
    if not run.has_begun:
        if config.initial_run:
            initial = Run.open(config.initial_run).load_network()
            _copy_weights(initial, network, config.freeze_codebooks)
        if not config.freeze_codebooks:
            initialize_codebooks(
                network,
                sample_batches(splits.train, num_samples, 256),
                seed=config.seed,
                training=config.epochs > 0,
            )
    if not config.epochs:
        # An optimizer that has not stepped is saved without its variables, and cannot be loaded.
        network.optimizer.build(network.trainable_variables)
        _save_network(network, run.folder / "network.keras")
        return network
    callbacks: list[keras.callbacks.Callback] = []
    if not config.freeze_codebooks:
        revive = ReviveCodewords(
            lambda: sample_batches(splits.train, num_samples, 256),
            last_epoch=config.epochs // 2 - 1,
            seed=config.seed,
        )
        callbacks.append(revive)
    if evaluate_every:
        callbacks.append(EvaluateRetrieval(splits, evaluate_every, CURVE_QUERIES))
    fit(
        network,
        _batches_from(batches, config.epochs * batches.steps_per_epoch),
        epochs=config.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        log_dir=run.folder / "logs",
        callbacks=callbacks,
        progress=progress,
    )
    if config.settles_codebooks:
        settle_codebooks(
            network,
            sample_batches(splits.train, max(num_samples, SETTLED_ITEMS), 256),
            seed=config.seed,
        )
    _save_network(network, run.folder / "network.keras")
    return network


def sample_batches(images: ImageSet, count: int, batch_size: int) -> Iterable[np.ndarray]:
    """At most `count` items, evenly spread over the set, in batches as heavy as so many images."""
    batch_size = images.items_per_batch(batch_size)
    positions = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
    return (batch.images for batch in images.batches(batch_size, positions))


def _batches_from(batches: TrainingBatches, num_steps: int) -> Callable[[int], Any]:
    """From a step to the batches up to `num_steps`, in the form that the backend's loop takes."""
    if keras.backend.backend() != "tensorflow" and batches.images.in_memory:
        return batches.arrays

    def dataset(step: int) -> Any:
        return batches.dataset(step, num_steps - step)

    if keras.backend.backend() == "tensorflow":
        return dataset
    return lambda step: dataset(step).as_numpy_iterator()


def _count_classes(labels: np.ndarray) -> int | None:
    """Number of classes of items with one label each; None of others."""
    return int(labels.max()) + 1 if labels.ndim == 1 else None


def _copy_weights(source: Any, network: Any, with_codebooks: bool) -> None:
    """Give the network the backbone and the embedding of another, maybe the codebooks too.

    Also the classifier, where both have one of the same classes.
    """
    parts = ["backbone", "embedding"]
    if with_codebooks:
        parts.append("quantizer")
    if network.num_classes is not None and source.num_classes == network.num_classes:
        parts.append("classifier")
    for part in parts:
        weights = getattr(source, part).get_weights()
        expected = [tuple(variable.shape) for variable in getattr(network, part).weights]
        received = [weight.shape for weight in weights]
        if received != expected:
            raise ValueError(
                f"The initial run's {part} must be like the network's: weights of the shapes "
                f"{expected}. Received: {received}"
            )
        getattr(network, part).set_weights(weights)
    fingerprints = [net.quantizer.codebook_fingerprint() for net in (source, network)]
    if with_codebooks and len(set(fingerprints)) > 1:
        wanted, given = (net.quantizer.get_config() for net in (network, source))
        differing = [
            key
            for key in wanted
            # Neither has a part in a code.
            if key not in ("name", "trainable", "beam_size") and wanted[key] != given.get(key)
        ]
        raise ValueError(
            "The initial run's quantizer must be like the network's, for its codes to stay valid: "
            f"expected {_describe_settings(wanted, differing)}. "
            f"Received: {_describe_settings(given, differing)}"
        )


def _describe_settings(settings: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name}={settings.get(name)!r}" for name in names)


def _save_network(network: Any, path: Path) -> None:
    """Save beside and rename, so that `path` is never half a file."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.keras")
    try:
        network.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
