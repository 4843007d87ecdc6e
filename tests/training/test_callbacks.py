"""Laws of the callbacks, in both ways of training."""

import contextlib
import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.tiny import (
    STEPS_PER_EPOCH,
    make_batches,
    make_images,
    make_network,
    make_splits,
)
from tfpqn.training import EvaluateRetrieval, ReviveCodewords, RunConfig, evaluate, fit
from tfpqn.training.loops.callbacks import WarnOfFailure
from tfpqn.training.runs.train import chance_loss

NUM_CODEWORDS = 16


@pytest.fixture
def network() -> Any:
    """A network with ten codewords in each codebook that no image chooses."""
    network = make_network()
    codebooks = np.array(network.quantizer.codebooks)
    codebooks[:, 6:] = codebooks[:, :1] + 1e-4 * codebooks[:, 6:]
    embeddings = np.array(network.embed(make_images().images)).reshape(64, 4, 4)
    # Six codewords lie on embeddings; the ten others point away from all of them.
    codebooks[:, :6] = embeddings[:6].transpose(1, 0, 2)
    away = -embeddings.mean(axis=0)
    codebooks[:, 6:] = away[:, None] / np.linalg.norm(away, axis=-1)[:, None, None]
    network.quantizer.codebooks.assign(codebooks)
    return network


def revive(network: Any, epoch: int = 0, **settings: Any) -> dict[str, float]:
    """Calls the callback as the end of an epoch does; returns the logs."""
    images = make_images().images
    callback = ReviveCodewords(lambda: iter([images[:40], images[40:]]), **settings)
    callback.set_model(network)
    logs: dict[str, float] = {"loss": 1.0}
    callback.on_epoch_end(epoch, logs)
    if "codewords_revived" in logs:
        assert callback.num_revived == [logs["codewords_revived"]]
    return logs


def dead_codewords(network: Any) -> list[np.ndarray]:
    codes = np.array(network.encode(make_images().images))
    return [np.setdiff1d(np.arange(NUM_CODEWORDS), column) for column in codes.T]


def test_dead_codewords_move_onto_embeddings_and_come_into_use(network: Any) -> None:
    dead = dead_codewords(network)
    former = np.array(network.quantizer.codebooks)
    embeddings = np.array(network.embed(make_images().images)).reshape(64, 4, 4)
    logs = revive(network)
    codebooks = np.array(network.quantizer.codebooks)
    assert logs["codewords_revived"] == sum(map(len, dead)) > 0
    for m, gone in enumerate(dead):
        alive = np.setdiff1d(np.arange(NUM_CODEWORDS), gone)
        np.testing.assert_array_equal(codebooks[m, alive], former[m, alive])
        for codeword in codebooks[m, gone]:
            assert np.abs(embeddings[:, m] - codeword).max(axis=1).min() < 1e-6
    assert sum(map(len, dead_codewords(network))) < sum(map(len, dead)) / 10
    while revive(network)["codewords_revived"]:
        pass
    # Codebooks in full use stay as they are.
    codebooks = np.array(network.quantizer.codebooks)
    assert revive(network)["codewords_revived"] == 0
    np.testing.assert_array_equal(network.quantizer.codebooks, codebooks)


def test_revival_follows_from_seed_and_epoch(network: Any) -> None:
    former = np.array(network.quantizer.codebooks)

    def outcome(epoch: int, seed: int) -> np.ndarray:
        network.quantizer.codebooks.assign(former)
        revive(network, epoch, seed=seed)
        return np.array(network.quantizer.codebooks)

    first = outcome(3, 8)
    np.testing.assert_array_equal(first, outcome(3, 8))
    assert not np.array_equal(first, outcome(4, 8))
    assert not np.array_equal(first, outcome(3, 9))


def test_last_epochs_are_left_to_training(network: Any) -> None:
    former = np.array(network.quantizer.codebooks)
    assert revive(network, epoch=3, last_epoch=2) == {"loss": 1.0}
    np.testing.assert_array_equal(network.quantizer.codebooks, former)
    assert revive(network, epoch=2, last_epoch=2)["codewords_revived"] > 0
    # Nor do callbacks need logs.
    callback = ReviveCodewords(lambda: [make_images().images])
    callback.set_model(network)
    callback.on_epoch_end(0)


def test_what_callbacks_find_is_in_the_history(network: Any) -> None:
    revival = ReviveCodewords(lambda: iter([make_images().images]), last_epoch=1)
    callbacks = [revival, EvaluateRetrieval(make_splits(), every=2)]
    settings = {"epochs": 3, "steps_per_epoch": STEPS_PER_EPOCH, "callbacks": callbacks}
    history = fit(network, make_batches().dataset, progress=False, **settings)
    revived = [epoch["codewords_revived"] for epoch in history if "codewords_revived" in epoch]
    assert revived == revival.num_revived
    assert len(revived) == 2
    assert ["mAP" in epoch and "raw_mAP" in epoch for epoch in history] == [False, True, False]
    assert 0.25 < history[1]["mAP"] <= 1


def test_retrieval_is_evaluated_after_each_nth_epoch() -> None:
    network, splits = make_network(), make_splits()
    figures = evaluate(network, splits)
    callback = EvaluateRetrieval(splits, every=3)
    callback.set_model(network)
    for epoch in range(6):
        logs: dict[str, float] = {}
        callback.on_epoch_end(epoch, logs)
        expected = {"mAP": figures["mAP"], "raw_mAP": figures["raw_embeddings"]["mAP"]}
        assert logs == (expected if epoch in (2, 5) else {})


def test_a_sample_of_the_queries_may_do() -> None:
    network, splits = make_network(), make_splits()
    callback = EvaluateRetrieval(splits, max_queries=3)
    callback.set_model(network)
    logs: dict[str, float] = {}
    callback.on_epoch_end(0, logs)
    sample = splits.query.subset(np.array([0, 5, 11]))
    expected = evaluate(network, dataclasses.replace(splits, query=sample))
    assert logs["mAP"] == expected["mAP"]


@pytest.mark.parametrize(
    ("epoch", "loss", "fails"), [(1, 9.0, False), (2, 0.8, True), (2, 0.7, False), (3, 9.0, False)]
)
def test_a_loss_above_that_of_knowing_nothing_is_said_after_the_third_epoch(
    epoch: int, loss: float, fails: bool
) -> None:
    callback = WarnOfFailure(0.7, "a smaller step")
    message = "After 3 epochs the loss is 0.800; .* nothing has 0.700.* Try a smaller step"
    with pytest.warns(UserWarning, match=message) if fails else contextlib.nullcontext():
        callback.on_epoch_end(epoch, {"loss": loss})


def test_the_loss_of_knowing_nothing_is_the_mean_over_batches_of_equal_scores_and_logits() -> None:
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
