"""Laws of the callbacks, in both ways of training."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest

from tests.training.tiny import make_images, make_network, make_splits
from tfpqn.training import EvaluateRetrieval, ReviveCodewords, RunConfig, evaluate
from tfpqn.training.loops.callbacks import WarnOfFailure
from tfpqn.training.runs.train import chance_loss


@pytest.fixture
def network():
    """A network with one codeword in each codebook that images choose."""
    network = make_network()
    codebooks = np.array(network.quantizer.codebooks)
    network.quantizer.codebooks.assign(np.broadcast_to(codebooks[:, :1], codebooks.shape))
    return network


def revive(network, epoch=0, **settings):
    """Calls the callback as the end of an epoch does; returns the logs."""
    images = make_images().images
    callback = ReviveCodewords(lambda: iter([images[:40], images[40:]]), **settings)
    callback.set_model(network)
    logs = {"loss": 1.0}
    callback.on_epoch_end(epoch, logs)
    if "codewords_revived" in logs:
        assert callback.num_revived == [logs["codewords_revived"]]
    return logs


def test_last_epochs_are_left_to_training(network):
    former = np.array(network.quantizer.codebooks)
    assert revive(network, epoch=3, last_epoch=2) == {"loss": 1.0}
    np.testing.assert_array_equal(network.quantizer.codebooks, former)
    assert revive(network, epoch=2, last_epoch=2)["codewords_revived"] > 0
    # Nor do callbacks need logs.
    callback = ReviveCodewords(lambda: [make_images().images])
    callback.set_model(network)
    callback.on_epoch_end(0)


def test_retrieval_of_a_sample_of_the_queries_is_evaluated_after_each_nth_epoch():
    network, splits = make_network(), make_splits()
    sample = splits.query.subset(np.array([0, 5, 11]))
    figures = evaluate(network, dataclasses.replace(splits, query=sample))
    expected = {"mAP": figures["mAP"], "raw_mAP": figures["raw_embeddings"]["mAP"]}
    callback = EvaluateRetrieval(splits, every=3, max_queries=3)
    callback.set_model(network)
    for epoch in range(6):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        assert logs == (expected if epoch in (2, 5) else {})


@pytest.mark.parametrize(
    ("epoch", "loss", "fails"), [(1, 9.0, False), (2, 0.8, True), (2, 0.7, False), (3, 9.0, False)]
)
def test_a_loss_above_that_of_knowing_nothing_is_said_after_the_third_epoch(epoch, loss, fails):
    callback = WarnOfFailure(0.7, "a smaller step")
    message = "After 3 epochs the loss is 0.800; .* nothing has 0.700.* Try a smaller step"
    with pytest.warns(UserWarning, match=message) if fails else contextlib.nullcontext():
        callback.on_epoch_end(epoch, {"loss": loss})


def test_the_loss_of_knowing_nothing_is_the_mean_over_batches_of_equal_scores_and_logits():
    config = RunConfig.of(
        loss_form="sigmoid",
        loss_margin=0.3,
        loss_weight=2.0,
        classification_weight=0.5,
        batch_size=8,
    )
    labels = np.repeat(np.arange(10), 4)
    logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    triplets, rng = config.loss.build(), np.random.default_rng(0)
    losses = []
    for _ in range(150):
        batch = rng.choice(labels, 8, replace=False)
        classes = float(logits(batch, np.zeros((8, 10), np.float32)))
        losses.append(2.0 * float(triplets(batch, np.ones((8, 2, 8), np.float32))) + 0.5 * classes)
    assert chance_loss(config, labels) == pytest.approx(np.mean(losses), rel=0.05)
