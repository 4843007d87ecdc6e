"""Laws of the first codebooks: they lie where the network's embeddings lie."""

import numpy as np
import pytest

from tests.training.tiny import arrays_of, make_images, make_network, make_network_with
from tfpqn.codebooks import settling
from tfpqn.datasets import ImageArrays
from tfpqn.layers import ProductQuantization
from tfpqn.training import initialize_codebooks, settle_codebooks
from tfpqn.training.runs.train import sample_batches

NUM_SUBSPACES, NUM_CODEWORDS = 4, 16


def embed_as_in_training(network, images):
    return np.array(network.embed(images, training=True))


def unit_codebooks(network):
    codebooks = np.array(network.quantizer.codebooks)
    return codebooks / np.linalg.norm(codebooks, axis=-1, keepdims=True)


def quantization_error(network, images):
    """Mean squared distance of a subvector to its nearest codeword."""
    embeddings = embed_as_in_training(network, images).reshape(len(images), NUM_SUBSPACES, -1)
    nearest = [
        np.square(embeddings[:, m, None] - codebook).sum(axis=-1).min(axis=1)
        for m, codebook in enumerate(unit_codebooks(network))
    ]
    return float(np.mean(nearest))


@pytest.mark.parametrize(("num_codewords", "num_images"), [(16, 64), (256, 300)])
def test_codewords_move_to_the_embeddings(num_codewords, num_images):
    network, images = make_network(num_codewords=num_codewords), make_images(num_images).images
    before = quantization_error(network, images)
    initialize_codebooks(network, [images])
    assert quantization_error(network, images) < before / 2
    embeddings = embed_as_in_training(network, images).reshape(len(images), NUM_SUBSPACES, -1)
    for m, codebook in enumerate(unit_codebooks(network)):
        cosines = codebook @ embeddings[:, m].T
        assert cosines.max(axis=1).min() > 0.8


def test_batches_are_clustered_together():
    images = make_images().images
    network = make_network()
    initialize_codebooks(network, [images[:40], images[40:]])
    first_alone = make_network()
    initialize_codebooks(first_alone, [images[:40]])
    assert not np.array_equal(unit_codebooks(network), unit_codebooks(first_alone))
    # Each batch is embedded by its own statistics, as training would.
    for part in (images[:40], images[40:]):
        assert quantization_error(network, part) < quantization_error(make_network(), part) / 2


def test_same_seed_gives_the_same_codebooks():
    networks = [make_network() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialize_codebooks(network, [make_images().images], seed=seed)
    first, again, other = (np.array(network.quantizer.codebooks) for network in networks)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_codebooks_and_moving_statistics_change():
    network = make_network()
    former = arrays_of(network.trainable_variables)
    initialize_codebooks(network, [make_images().images])
    changed = [
        variable.path
        for variable, before in zip(network.trainable_variables, former, strict=True)
        if not np.array_equal(variable, before)
    ]
    assert changed == [network.quantizer.codebooks.path]


def test_images_that_are_all_equal_leave_finite_codebooks():
    network = make_network()
    initialize_codebooks(network, [np.full((30, 8, 8, 1), 9, np.uint8)])
    assert np.isfinite(network.quantizer.codebooks).all()


def _no_cluster(vectors, num_clusters):
    raise AssertionError("one level needs no clustering to settle")


def test_settled_codewords_are_those_of_the_embeddings_of_inference():
    images = make_images().images
    network, expected = (
        make_network_with(ProductQuantization(4, 16, unit_codewords=False)) for _ in range(2)
    )
    expected.set_weights(network.get_weights())
    settle_codebooks(network, [images[:10], images[10:]])
    settling.settle_codebooks(expected.quantizer, np.array(expected.embed(images)), _no_cluster)
    np.testing.assert_allclose(
        network.quantizer.codebooks, expected.quantizer.codebooks, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("fit_codebooks", [initialize_codebooks, settle_codebooks])
def test_no_image_is_an_error(fit_codebooks):
    with pytest.raises(ValueError, match="at least one batch. Received: none"):
        fit_codebooks(make_network(), [])


@pytest.mark.parametrize(("side", "sizes"), [(8, [70]), (128, [64, 6]), (1024, [16] * 4 + [6])])
def test_fewer_large_images_than_small_ones_are_embedded_at_once(side, sizes):
    images = np.broadcast_to(np.uint8(0), (70, side, side, 1))
    batches = sample_batches(ImageArrays(images, np.zeros(70, int)), 100)
    assert [len(batch) for batch in batches] == sizes
