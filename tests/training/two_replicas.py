"""A process with two logical devices: what differs between one replica and two, as JSON."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.training.tiny import (
    BATCH_SIZE,
    STEPS_PER_EPOCH,
    arrays_of,
    compiled_network,
    make_backbone,
    make_batches,
    make_images,
)
from tfpqn.layers import ProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models.replicated_model import synchronized_normalization
from tfpqn.training import fit

IMAGES = make_images()
WEIGHTS = np.linspace(0, 1, BATCH_SIZE).astype("float32")


def make_network(strategy, **options):
    """A network of one replica, or of a strategy's, with the same weights at every call."""
    keras.utils.set_random_seed(7)
    with strategy.scope():
        # Without centring, which would leave some weights to rounding alone.
        options = {"embedding_dim": 16, "center_embeddings": False, **options}
        return compiled_network(make_backbone(), ProductQuantization(4, 16), **options)


def take_step(strategy, **options):
    """Loss and gradients of the first batch, whose replicas share it equally."""
    network = make_network(strategy, **options)
    count = strategy.num_replicas_in_sync

    def on_replica():
        context = tf.distribute.get_replica_context()
        place, size = context.replica_id_in_sync_group, BATCH_SIZE // count
        rows = (IMAGES.images[:BATCH_SIZE], IMAGES.labels[:BATCH_SIZE], WEIGHTS)
        images, labels, weights = (tf.constant(x)[place * size :][:size] for x in rows)
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
            loss = network.compute_loss(images, labels, outputs, weights)
        gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
        return context.all_reduce("SUM", [loss, *gradients])

    with synchronized_normalization(network):
        found = tf.function(lambda: strategy.run(on_replica))()
    return [strategy.experimental_local_results(x)[0].numpy() for x in found]


def train_by_keras(strategy):
    network = make_network(strategy)
    options = {"batch_size": BATCH_SIZE, "epochs": 2, "shuffle": False, "verbose": 0}
    history = network.fit(IMAGES.images, IMAGES.labels, **options).history
    return network, [np.array(history[name]) for name in sorted(history)]


class Stop(keras.callbacks.Callback):
    """Interrupts within the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1 and batch == 1:
            raise KeyboardInterrupt


def train(strategy, batches=None, folder=None, callbacks=()):
    network = make_network(strategy)
    history = fit(
        network,
        batches or make_batches(augment=True),
        epochs=2,
        steps_per_epoch=STEPS_PER_EPOCH,
        checkpoint_dir=folder,
        checkpoint_every=1,
        callbacks=callbacks,
        progress=False,
    )
    names = sorted(history[0].keys() - {"seconds"})
    return network, [np.array([epoch[name] for epoch in history]) for name in names]


def go_on(first, second, folder):
    """What two strategies reach together, the second from where the first was stopped."""
    try:
        train(first, None, folder, [Stop()])
    except KeyboardInterrupt:
        return train(second, None, folder)
    raise RuntimeError("was not stopped")


def refusal(strategy):
    try:
        train(strategy, lambda step: make_batches().dataset(step).unbatch().batch(15))
    except ValueError as error:
        return str(error)
    return ""


def difference(first, second):
    """Of two lists of arrays, or of two trainings, the largest difference."""
    if isinstance(first, tuple):
        pairs = (
            (first[1], second[1]),
            (arrays_of(first[0].variables), arrays_of(second[0].variables)),
        )
        return max(difference(*pair) for pair in pairs)
    return float(max(np.abs(x - y).max() for x, y in zip(first, second, strict=True)))


def main(folder):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    both = (one, two)
    losses = {
        "softplus": {},
        "sum": {"loss": AsymmetricTripletLoss("sigmoid", hardness=2.0, reduction="sum")},
        "classifier": {"num_classes": 4, "classified": "both"},
    }
    found = {
        f"step {name}": difference(*(take_step(each, **options) for each in both))
        for name, options in losses.items()
    }
    by_keras, by_loop = (tuple(map(train_one, both)) for train_one in (train_by_keras, train))
    network = by_keras[1][0]
    network.save(folder / "network.keras")
    loaded = keras.saving.load_model(folder / "network.keras")
    normalizations = [x for x in loaded.backbone.layers if hasattr(x, "synchronized")]
    found |= {
        "fit": difference(*by_keras),
        "loop": difference(*by_loop),
        "stream": difference(by_loop[1], train(two, make_batches(augment=True).dataset)),
        "resumed by two": difference(by_loop[1], go_on(two, two, folder / "two")),
        "resumed by one": difference(by_loop[1], go_on(two, one, folder / "one")),
        "file": difference(*(arrays_of(each.variables) for each in (network, loaded))),
        "synchronized": [layer.synchronized for layer in normalizations],
        "predicted": len(network.predict_on_batch(IMAGES.images)["codes"]),
        "refusal": refusal(two),
    }
    # A last batch that leaves one replica without an item.
    network.fit(IMAGES.images[:21], IMAGES.labels[:21], batch_size=BATCH_SIZE, verbose=0)
    found["finite"] = all(np.isfinite(array).all() for array in arrays_of(network.variables))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
