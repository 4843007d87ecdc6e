"""Training of a run to its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tfpqn.codebooks.initialization import initialize_codebooks, settle_codebooks
from tfpqn.datasets import ImageSet, Splits, TrainingBatches

from ..loops.callbacks import EvaluateRetrieval, ReviveCodewords, WarnOfFailure
from ..loops.fit import fit
from ..settings.building import chance_loss
from ..settings.run_config import RunConfig
from .machine import note_machine
from .network_file import NETWORK_FILE, remove_leftovers, save_network
from .run import Run

# Images per codeword for k-means and for the search for dead codewords, and the least in all.
SAMPLES_PER_CODEWORD = 16
FEWEST_SAMPLES = 2048
# Queries of an evaluation between epochs.
CURVE_QUERIES = 1000
# Decoded images of a folder that are held in memory, not read again in each epoch.
HELD_BYTES = 2**30
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

    A run with `earlier_epochs` is trained to each of them first, as it was before it was prolonged.

    Args:
        run: From `Run.start`.
        splits: The data; `train` is used.
        checkpoint_every: Steps between checkpoints; on another backend than TensorFlow each epoch's
            end has one, and no other.
        evaluate_every: Epochs between evaluations, of at most 1,000 queries, whose mAP goes into
            the history; None for none.
        progress: Whether to show on stderr how far it is: by a bar, or where there is no terminal
            by a line an epoch.

    Returns:
        The trained network, which is also saved in the run's folder; of a run that was trained
        before, as `run.load_network()` loads it.

    Raises:
        BlockingIOError: Another process or thread is training the run.
        ValueError: The data does not fit the settings, the initial run's network is another, the
            folder meanwhile holds a run of other settings, or the loss became NaN.
    """
    if run.is_trained:
        run.for_items(splits.train).require_own_settings()
        return run.load_network()
    with run.lock():
        run = run.for_items(splits.train)
        # What others have entered since the run was started gives way, or is kept by an error.
        run.bind()
        if run.is_trained:
            return run.load_network()
        remove_leftovers(run.folder)
        if run.has_begun:
            run.find_changes(splits)
        run.record_split(splits)
        splits = dataclasses.replace(splits, train=splits.train.held_in_memory(HELD_BYTES))
        precision = note_machine(run.folder, run.config)["precision"]
        done = len(run.read_history())
        for stage in dataclasses.replace(run.config, precision=precision).stages:
            if done < stage.num_epochs or stage.num_epochs == run.config.num_epochs:
                network = _train_stage(
                    run, splits, stage, checkpoint_every, evaluate_every, progress
                )
        save_network(network, run.folder / NETWORK_FILE)
    return network


def _train_stage(
    run: Run,
    splits: Splits,
    config: RunConfig,
    checkpoint_every: int | None,
    evaluate_every: int | None,
    progress: bool,
) -> Any:
    """The network after all epochs of `config`, from the last checkpoint on."""
    batches = TrainingBatches(
        splits.train,
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        max_shift=config.max_shift or 0,
        min_area=config.min_area,
        cutout=config.cutout,
        color_jitter=config.color_jitter,
        views=config.views,
        samples_per_class=config.samples_per_class,
    )
    num_classes = _count_classes(splits.train.labels)
    network = config.build_network(
        splits.train.image_shape,
        config.num_epochs * batches.steps_per_epoch,
        num_classes,
    )
    network.quantizer.trainable = not config.freeze_codebooks
    checkpoint_dir = run.folder / "checkpoints"
    num_samples = max(FEWEST_SAMPLES, SAMPLES_PER_CODEWORD * network.quantizer.num_codewords)
    if not config.num_epochs:
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
                training=config.num_epochs > 0,
            )
    if not config.num_epochs:
        # An optimizer that has not stepped is saved without its variables, and cannot be loaded.
        network.optimizer.build(network.trainable_variables)
        return network
    callbacks: list[keras.callbacks.Callback] = [
        WarnOfFailure(chance_loss(config, splits.train.labels), _advise(config))
    ]
    if not config.freeze_codebooks:
        revive = ReviveCodewords(
            lambda: sample_batches(splits.train, num_samples, 256),
            last_epoch=config.num_epochs // 2 - 1,
            seed=config.seed,
        )
        callbacks.append(revive)
    if evaluate_every:
        callbacks.append(EvaluateRetrieval(splits, evaluate_every, CURVE_QUERIES))
    fit(
        network,
        _batches_from(batches, config.num_epochs * batches.steps_per_epoch),
        epochs=config.num_epochs,
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
    return network


def sample_batches(images: ImageSet, count: int, batch_size: int) -> Iterable[np.ndarray]:
    """At most `count` items, evenly spread over the set, in batches as heavy as so many images."""
    batch_size = images.items_per_batch(batch_size)
    positions = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
    return (batch.images for batch in images.batches(batch_size, positions))


def _batches_from(batches: TrainingBatches, num_steps: int) -> Callable[[int], Any]:
    """From a step to the batches up to `num_steps`, in the form that the backend's loop takes."""
    if keras.backend.backend() != "tensorflow":
        return batches.arrays
    return lambda step: batches.dataset(step, num_steps - step)


def _advise(config: RunConfig) -> str:
    """What may help where the loss does not fall."""
    return (
        f"a smaller --learning-rate (it is {config.learning_rate:g}), a smaller --loss-scale (it "
        f"is {config.loss_scale:g}), or more images of a label in a batch, as --set "
        "samples_per_class=4 draws them"
    )


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
