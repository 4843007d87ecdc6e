"""Training of a run to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.codebooks.fitting import fit_vectors
from tfpqn.codebooks.initialization import initialize_codebooks, settle_codebooks
from tfpqn.codebooks.whitening import whiten_features
from tfpqn.datasets import ImageSet, Splits, TrainingBatches
from tfpqn.datasets.labels.numbering import number_classes
from tfpqn.protocols import NetworkLike

from ..encoding import spread
from ..loops.callbacks import EvaluateRetrieval, ReviveCodewords, WarnOfFailure
from ..loops.fit import fit
from ..loops.progress import shown_steps
from ..settings.run_config import RunConfig
from .frozen_backbone import FrozenBackbone
from .initial_run import start_from
from .network_file import NETWORK_FILE, remove_leftovers, save_network
from .precision import warn_of_slow_precision
from .run import Run
from .workers import require_same_settings

# Images per codeword for k-means and for the search for dead codewords, and the least in all.
SAMPLES_PER_CODEWORD = 16
FEWEST_SAMPLES = 2048
# Vectors per codeword to which codebooks are fitted, as FAISS takes them.
FITTED_PER_CODEWORD = 256
# Queries of an evaluation between epochs.
CURVE_QUERIES = 1000
# Decoded images of a folder that are held in memory, not read again in each epoch.
HELD_BYTES = 2**30
# Images that are embedded at once: all that a backbone's layers make of them is in memory.
MOST_EMBEDDED = 256
FEWEST_EMBEDDED = 16
EMBEDDED_PIXELS = MOST_EMBEDDED * 64 * 64
# Embeddings of so many are held at once, after training.
SETTLED_ITEMS = 2**16


def train(
    run: Run,
    splits: Splits,
    *,
    checkpoint_every: int | None = 200,
    evaluate_every: int | None = None,
    progress: bool = True,
    strategy: Any = None,
) -> Any:
    """Train a run to its end, going on from its last checkpoint if it has one.

    With `freeze_codebooks` the codebooks stay those of the initial run, bit by bit: no k-means, no
    revival, and `network.quantizer.trainable` is False. The same holds in plain Keras: set
    `network.quantizer.trainable = False` before `compile`, and `fit` leaves the codebooks alone.

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
        strategy: A `tf.distribute` strategy whose replicas share each batch, see `fit`; it has no
            part in the settings, and the run may go on with another. Each worker makes the call.

    Returns:
        The trained network, which is also saved in the run's folder; of a run that was trained
        before, as `run.load_network()` loads it.

    Raises:
        BlockingIOError: Another process or thread is training the run.
        ConnectionError: Another worker has ended before the training.
        ValueError: The data does not fit the settings, the initial run's network is another, the
            folder meanwhile holds a run of other settings, the loss became NaN, replicas cannot
            share a batch equally, or workers have other settings or items.
    """
    if strategy is not None:
        run = dataclasses.replace(run, writes=bool(strategy.extended.should_checkpoint))
    if run.is_trained:
        run.for_items(splits.train).require_own_settings()
        run.split_record.find_changes(splits)
        return run.load_network()
    with run.lock():
        run = run.for_items(splits.train)
        if strategy is not None:
            require_same_settings(strategy, run.config, splits)
        # What others have entered since the run was started gives way, or is kept by an error.
        run.bind()
        if run.is_trained:
            return run.load_network()
        if run.writes:
            remove_leftovers(run.folder)
        if run.config.data.folder:
            if run.has_begun:
                run.split_record.find_changes(splits)
            if run.writes:
                run.split_record.write(splits)
        if run.config.model.freeze_backbone:
            frozen = FrozenBackbone(run, splits, progress)
            splits = frozen.splits(with_queries=evaluate_every is not None)
        elif not run.config.model.is_fitted:
            held = splits.train.held_in_memory(HELD_BYTES)
            if len(held) < len(splits.train):
                warnings.warn(
                    f"Training takes {len(held):,} of the {len(splits.train):,} vectors, evenly "
                    f"spread: it reads them into memory, {HELD_BYTES / 2**30:g} GiB at most. Of "
                    "an .npy file with a table of labels it takes all",
                    stacklevel=2,
                )
            splits = dataclasses.replace(splits, train=held)
        splits = dataclasses.replace(splits, train=number_classes(splits.train))
        warn_of_slow_precision(run.config.model.precision)
        done = run.count_kept_epochs()
        options = {"checkpoint_every": checkpoint_every, "progress": progress}
        for config in run.config.stages:
            if done < config.num_epochs or config.num_epochs == run.config.num_epochs:
                stage = _Stage(run, splits, config, evaluate_every, options, strategy)
                network = stage.train()
        if run.config.model.freeze_backbone:
            network = frozen.complete(network)
        if run.writes:
            save_network(network, run.folder / NETWORK_FILE)
    return network


class _Stage(NamedTuple):
    """A run up to a number of epochs: its own, or one that it ended with before."""

    run: Run
    splits: Splits
    config: RunConfig
    evaluate_every: int | None
    options: dict[str, Any]
    strategy: Any

    def train(self) -> Any:
        """The network after all epochs of `config`, from the last checkpoint on."""
        batches = self._batches()
        num_steps = self.config.num_epochs * batches.steps_per_epoch
        labels = self.splits.train.labels
        with self._scope():
            network = self.config.build_network(
                self.splits.train.image_shape, num_steps, _count_classes(labels)
            )
        network.quantizer.trainable = not self.config.model.freeze_codebooks
        if not self.run.has_begun:
            self._begin(network)
        if not self.config.num_epochs:
            # An optimizer that has not stepped is saved without its variables, and cannot be
            # loaded.
            with self._scope():
                network.optimizer.build(network.trainable_variables)
            return network
        fit(
            network,
            batches,
            epochs=self.config.num_epochs,
            steps_per_epoch=batches.steps_per_epoch,
            checkpoint_dir=self.run.folder / "checkpoints",
            log_dir=self.run.folder / "logs",
            callbacks=self._callbacks(network),
            **self.options,
        )
        if self.config.model.settles_codebooks:
            settle_codebooks(network, self._sample(network, SETTLED_ITEMS), seed=self.config.seed)
        return network

    def _scope(self) -> contextlib.AbstractContextManager[Any]:
        """In which variables are made that the replicas share."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def _batches(self) -> TrainingBatches:
        data = self.config.data
        return TrainingBatches(
            self.splits.train,
            data.images_per_step,
            seed=self.config.seed,
            augment=data.augment and self.splits.train.items.has_pixels,
            max_shift=data.max_shift or 0,
            min_area=data.min_area,
            cutout=data.cutout,
            color_jitter=data.color_jitter,
            views=data.views,
            samples_per_class=data.samples_per_class,
        )

    def _begin(self, network: NetworkLike) -> None:
        """Weights of the initial run, and codebooks for the first embeddings."""
        model, epochs = self.config.model, self.config.num_epochs
        if model.initial_run:
            initial = Run.open(model.initial_run).load_network()
            start_from(initial, network, with_codebooks=model.freeze_codebooks)
        if model.is_fitted:
            self._fit_codebooks(network)
        elif not model.freeze_codebooks:
            # K-means alone has the time to look at all.
            fewest = FEWEST_SAMPLES if epochs else len(self.splits.train)
            initialize_codebooks(
                network, self._sample(network, fewest), seed=self.config.seed, training=epochs > 0
            )

    def _fit_codebooks(self, network: NetworkLike) -> None:
        """Codebooks, and a rotation, for embeddings as they are."""
        count = FITTED_PER_CODEWORD * network.quantizer.num_codewords
        batches = sample_batches(self.splits.train, count)
        if self.config.model.whitens:
            batches = list(batches)
            whiten_features(network, np.concatenate(batches), seed=self.config.seed)
        vectors = np.concatenate([ops.convert_to_numpy(network.embed(batch)) for batch in batches])
        with shown_steps(self.options["progress"]) as progress:
            fit_vectors(network, vectors, seed=self.config.seed, progress=progress)

    def _callbacks(self, network: NetworkLike) -> list[keras.callbacks.Callback]:
        config = self.config
        chance = chance_loss(config, self.splits.train.labels)
        callbacks: list[keras.callbacks.Callback] = [WarnOfFailure(chance, _advise(config))]
        if not config.model.freeze_codebooks:
            callbacks.append(
                ReviveCodewords(
                    lambda: self._sample(network, FEWEST_SAMPLES),
                    last_epoch=config.num_epochs // 2 - 1,
                    seed=config.seed,
                )
            )
        if self.evaluate_every:
            callbacks.append(EvaluateRetrieval(self.splits, self.evaluate_every, CURVE_QUERIES))
        return callbacks

    def _sample(self, network: NetworkLike, fewest: int) -> Iterable[np.ndarray]:
        number = max(fewest, SAMPLES_PER_CODEWORD * network.quantizer.num_codewords)
        return sample_batches(self.splits.train, number)


def sample_batches(images: ImageSet, count: int) -> Iterable[np.ndarray]:
    """At most `count` items, evenly spread over the set, in batches that fit into memory."""
    pixels = math.prod(images.image_shape[:2]) if images.items.has_pixels else 1
    size = min(max(EMBEDDED_PIXELS // pixels, FEWEST_EMBEDDED), MOST_EMBEDDED)
    batch_size = images.items_per_batch(size)
    positions = spread(len(images), count)
    return (batch.images for batch in images.batches(batch_size, positions))


def chance_loss(config: RunConfig, labels: np.ndarray) -> float:
    """The mean loss of a network that knows nothing: all its scores are equal, and all its logits.

    Args:
        config: Settings of the run, with nothing left open.
        labels: Of the training items, `[num_items]` or multi-hot `[num_items, num_labels]`.
    """
    data = config.data
    loss = config.loss.weight * config.loss.chance()
    if labels.ndim == 1 and data.views == 1:
        _, counts = np.unique(labels, return_counts=True)
        if not data.samples_per_class:
            # An anchor alone with its label in the batch has no triplet.
            others = (counts - 1) / max(counts.sum() - 1, 1)
            loss *= np.average(1.0 - (1.0 - others) ** (data.images_per_step - 1), weights=counts)
        loss += (config.loss.classification_weight or 0.0) * math.log(len(counts))
    return float(loss)


def _advise(config: RunConfig) -> str:
    """What may help where the loss does not fall."""
    return (
        f"a smaller --learning-rate (it is {config.optimization.learning_rate:g}), a smaller "
        f"--loss-scale (it is {config.loss.scale:g}), or more images of a label in a batch, as "
        "--samples-per-class 4 draws them"
    )


def _count_classes(labels: np.ndarray) -> int | None:
    """Number of classes of items with one label each; None of others."""
    return int(labels.max()) + 1 if labels.ndim == 1 else None
