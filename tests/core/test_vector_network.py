"""Laws of networks whose items are vectors of another model."""

import keras
import numpy as np
import pytest

from tests.core.backend import to_numpy
from tfpqn.items import VECTORS
from tfpqn.layers import ProductQuantization, TemporalProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork

ITEMS = np.random.default_rng(0).normal(size=(24, 12)).astype(np.float32)


def make_network(embedding_dim=None, backbone=None, **options):
    network = ProductQuantizationNetwork(
        backbone, ProductQuantization(2, 8), embedding_dim, **options
    )
    network.build((None, ITEMS.shape[1]))
    return network


def test_without_an_embedding_layer_a_vector_is_its_own_embedding():
    network = make_network()
    expected = to_numpy(network.quantizer.normalize(ITEMS))
    np.testing.assert_allclose(to_numpy(network.embed(ITEMS)), expected, atol=1e-6)
    assert network.items is VECTORS
    assert network.image_shape == (12,)


def test_a_rotation_turns_vectors_by_its_matrix():
    network = make_network(rotation=True)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    network.rotation.set_weights([turn])
    expected = to_numpy(network.quantizer.normalize(ITEMS @ turn.astype(np.float32)))
    np.testing.assert_allclose(to_numpy(network.embed(ITEMS)), expected, atol=1e-5)


def test_a_head_learns_labels_from_vectors_of_any_length():
    labels = np.arange(24) % 2
    items = 1000.0 * (ITEMS + 3.0 * np.where(labels, 1, -1)[:, None])
    network = make_network(8, scale_features=True, dropout=0.2)
    network.compile(keras.optimizers.Adam(0.01), AsymmetricTripletLoss())
    history = network.fit(items, labels, epochs=20, batch_size=12, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_a_network_of_vectors_comes_back_from_its_file(tmp_path):
    network = make_network(8, scale_features=True, dropout=0.2, rotation=True)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(to_numpy(loaded.embed(ITEMS)), to_numpy(network.embed(ITEMS)))
    assert loaded.image_shape == (12,)


def test_a_backbone_built_for_vectors_makes_a_network_of_vectors():
    backbone = keras.Sequential([keras.Input((12,)), keras.layers.Dense(6)])
    network = make_network(4, backbone)
    assert network.items is VECTORS
    assert to_numpy(network.encode(ITEMS)).shape == (24, 2)


def test_vectors_of_another_width_or_rank_are_refused():
    network = make_network()
    with pytest.raises(ValueError, match=r"network's shape \(12,\). Received: \(5,\)"):
        network.require_item_shape((5,))
    with pytest.raises(ValueError, match=r"vectors \[batch, dim\]. Received: a batch of rank 4"):
        network.require_item_shape((8, 8, 3))


def test_a_quantizer_of_clips_is_refused_for_vectors():
    with pytest.raises(ValueError, match="single items.*Received: TemporalProductQuantization"):
        ProductQuantizationNetwork(None, TemporalProductQuantization(2, 2, 8))


def unbuilt_network(**options):
    return ProductQuantizationNetwork(None, ProductQuantization(2, 8), None, **options)


def test_an_unbuilt_network_is_built_by_the_first_vectors_that_it_embeds():
    assert to_numpy(unbuilt_network().embed(ITEMS)).shape == (24, 12)
    assert to_numpy(unbuilt_network().encode(ITEMS)).shape == (24, 2)
    with pytest.raises(RuntimeError, match="rotation needs a network that is built"):
        _ = unbuilt_network(rotation=True).rotation


def test_a_width_that_was_refused_leaves_the_network_open_for_another():
    network = unbuilt_network(rotation=True)
    with pytest.raises(ValueError, match="embedding_dim=11, num_subspaces=2"):
        network.build((None, 11))
    assert to_numpy(network.encode(ITEMS)).shape == (24, 2)
