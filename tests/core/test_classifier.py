"""Laws of the classifier that trains beside a network's own loss."""

import numpy as np
import pytest

from tests.core.backend import assert_close, to_numpy
from tests.training.tiny import build_network, compiled_network

SIDES = {
    "quantized": ["quantized"],
    "embeddings": ["embeddings"],
    "both": ["embeddings", "quantized"],
}


@pytest.mark.parametrize("classified", SIDES)
def test_it_adds_its_weighted_mean_cross_entropy(images_and_labels, classified):
    images, labels = images_and_labels
    network = compiled_network(
        num_classes=4, classified=classified, classification_weight=0.5, label_smoothing=0.2
    )
    outputs = {name: to_numpy(value) for name, value in network(images).items()}
    kernel, bias = network.classifier.get_weights()
    targets = 0.8 * np.eye(4)[labels] + 0.2 / 4
    losses = []
    for side in SIDES[classified]:
        logits = outputs[side].astype("float64") @ kernel + bias
        log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses.append(-(targets * log_shares).sum(axis=1).mean())
    # Of both, the outputs hold the logits of the quantized items.
    assert_close(outputs["logits"], logits.astype("float32"))
    pairs = np.stack([outputs["embeddings"], outputs["quantized"]], axis=1)
    expected = float(to_numpy(network.loss(labels, pairs))) + 0.5 * np.mean(losses)
    total = float(to_numpy(network.compute_loss(images, labels, outputs)))
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2. Received: 1"),
        ({"classified": "codes"}, r"classified must be one of .*'embeddings'.*Received: 'codes'"),
        ({"classification_weight": -1.0}, "classification_weight must be finite and at least 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\). Received: 1.0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_network(**{"num_classes": 4, **options})


def test_labels_that_are_no_classes_are_refused(images_and_labels):
    images, labels = images_and_labels
    network = compiled_network(num_classes=4)
    for bad, received in (
        (labels + 4, "4 to 7"),
        (labels - 1, "-1 to 2"),
        (labels + 1.0, "1.0 to 4.0"),
        ((labels + 1).tolist(), "1 to 4"),
    ):
        with pytest.raises(ValueError, match=f"below num_classes=4. Received: .* {received}"):
            network.fit(images, bad, verbose=0)
    with pytest.raises(ValueError, match=r"integer labels \[batch\].*\(24, 4\)"):
        network.compute_loss(images, np.eye(4)[labels], network(images))
