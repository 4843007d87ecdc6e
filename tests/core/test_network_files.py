"""Laws of networks in files: configuration, frozen parts, the classifier."""

import keras
import pytest

from tests.core.backend import assert_close
from tests.training.tiny import (
    IMAGE_SHAPE,
    assert_same_outputs,
    build_clip_network,
    build_network,
    compiled_network,
    map_backbone,
)
from tfpqn.layers import TemporalProductQuantization
from tfpqn.models import ProductQuantizationNetwork


@pytest.mark.parametrize("make", [build_network, build_clip_network])
def test_the_configuration_comes_back(make):
    options = {"quantizer": TemporalProductQuantization((1, 2), 2, 8, levels=2)}
    network = make(
        **(options if make is build_clip_network else {}),
        embedding_dim=6,
        center_embeddings=False,
        num_classes=4,
        classified="both",
        classification_weight=2.0,
        label_smoothing=0.1,
        name="birds",
    )
    config = network.get_config()
    again = ProductQuantizationNetwork.from_config(config)
    assert again.get_config() == config
    assert (again.name, again.embedding_dim, again.center_embeddings) == ("birds", 6, False)
    shapes = [[tuple(weight.shape) for weight in x.weights] for x in (network, again)]
    assert shapes[0] == shapes[1]


@keras.saving.register_keras_serializable(package="tests")
class ModelOfItself(keras.Model):
    """A model whose configuration says nothing of its layers, such as those of KerasHub."""

    def __init__(self, **kwargs):
        inputs = keras.Input(IMAGE_SHAPE)
        outputs = keras.layers.Dense(4)(keras.layers.Flatten()(inputs))
        super().__init__(inputs, keras.layers.Dense(8)(outputs), **kwargs)

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    ("make_backbone", "parts"),
    [
        (keras.layers.Flatten, lambda network: [network.embedding, network.classifier]),
        (map_backbone, lambda network: [network.backbone, network.quantizer]),
        (map_backbone, lambda network: [network.classifier, network.embedding.layers[-2]]),
        (map_backbone, lambda network: [network]),
        (ModelOfItself, lambda network: [network.backbone.layers[2]]),
    ],
    ids=["unbuilt", "backbone and quantizer", "linear layers", "all", "a layer of the backbone"],
)
def test_what_is_frozen_is_so_in_the_file_and_the_optimizer_goes_on(
    images_and_labels, tmp_path, make_backbone, parts
):
    """Frozen before the network is built, where the backbone does not know its input."""
    images, labels = images_and_labels
    images = images.astype("float32")
    network = build_network(make_backbone(), num_classes=4)
    for part in parts(network):
        part.trainable = False
    network = compiled_network(make=lambda: network)
    network(images)
    network.optimizer.build(network.trainable_variables)
    if network.trainable_variables:
        network.train_on_batch(images, labels)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again(images), network(images))
    trainable = [variable.trainable for variable in network.variables]
    assert [variable.trainable for variable in again.variables] == trainable
    assert len(again.trainable_variables) == len(network.trainable_variables)
    for mine, other in zip(network.optimizer.variables, again.optimizer.variables, strict=True):
        assert_close(other, mine)
