"""Laws of the network, as a Keras user meets it."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import assert_close, assert_same, to_numpy
from tests.training.tiny import (
    COMPILE_OPTIONS,
    IMAGE_SHAPE,
    assert_same_outputs,
    build_clip_network,
    build_motion_network,
    build_network,
    clip_backbone,
    compiled_network,
    map_backbone,
)
from tfpqn.items import CLIPS, IMAGES
from tfpqn.layers import ProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork

HEALTH = {"codebook_usage", "codebook_perplexity"}


def test_a_user_trains_evaluates_saves_and_goes_on(images_and_labels, tmp_path):
    """With the compiler that Keras chooses, on arrays whose last batch is smaller."""
    images, labels = images_and_labels
    network = build_network()
    network.compile("adam", AsymmetricTripletLoss("softplus", scale=4.0))
    options = {"batch_size": 9, "shuffle": False, "verbose": 0}
    history = network.fit(images, labels, epochs=4, validation_data=(images, labels), **options)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.history.keys() == {
        f"{prefix}{name}" for prefix in ("", "val_") for name in {"loss", *HEALTH}
    }
    figures = network.evaluate(images, labels, batch_size=9, verbose=0, return_dict=True)
    assert figures["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-5)
    outputs = network.predict(images, batch_size=9, verbose=0)

    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert isinstance(again, ProductQuantizationNetwork)
    assert_same_outputs(again.predict(images, batch_size=9, verbose=0), outputs)
    assert again.quantizer.codebook_fingerprint() == network.quantizer.codebook_fingerprint()
    assert again.image_shape == network.image_shape == IMAGE_SHAPE
    assert again.evaluate(
        images, labels, batch_size=9, verbose=0, return_dict=True
    ) == pytest.approx(figures, rel=1e-5)

    # Adam's moments came along: both go on to the same weights.
    assert int(again.optimizer.iterations) == 12
    for each in (network, again):
        each.fit(images, labels, **options)
    for first, second in zip(network.weights, again.weights, strict=True):
        assert_close(second, first)


def test_outputs_agree_with_the_quantizer_and_the_loops(images_and_labels):
    images, _ = images_and_labels
    network = build_network()
    codebooks = to_numpy(network.quantizer.codebooks)
    for training in (False, True):
        outputs = {name: to_numpy(x) for name, x in network(images, training=training).items()}
        assert set(outputs) == {"embeddings", "quantized", "codes"}
        embeddings = outputs["embeddings"]
        assert_close(reference.intra_normalize(embeddings, 2), embeddings)
        np.testing.assert_array_equal(outputs["codes"], reference.encode(embeddings, codebooks))
        soft = reference.reconstruct_soft(embeddings, codebooks, network.quantizer.alpha)
        hard = reference.decode(outputs["codes"], codebooks)
        assert_close(outputs["quantized"], soft if training else hard)
        # Batch normalisation's moving averages have moved on since the call in training.
        if not training:
            assert_close(network.embed(images), embeddings, 1e-6)
            assert_same(network.encode(images), outputs["codes"])


def test_evaluation_reports_loss_and_own_metrics_of_hard_codes_and_the_health_of_codebooks(
    images_and_labels,
):
    images, labels = images_and_labels

    def quantization_error(_, pairs):
        return keras.ops.mean(keras.ops.square(pairs[:, 0] - pairs[:, 1]), axis=-1)

    network, loss = build_network(), AsymmetricTripletLoss("hinge", margin=0.2)
    network.compile(loss=loss, metrics=[quantization_error], **COMPILE_OPTIONS)
    outputs = network.predict(images, verbose=0)
    embeddings, quantized = outputs["embeddings"], outputs["quantized"]
    figures = network.evaluate(images, labels, batch_size=24, verbose=0, return_dict=True)
    relevance = np.equal.outer(labels, labels)
    losses = reference.asymmetric_triplet_loss(relevance, embeddings, quantized, "hinge", 2, 0.2)
    assert figures["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    error = np.square(embeddings - quantized).mean()
    assert figures["quantization_error"] == pytest.approx(error, rel=1e-5)
    used = [len(set(column)) / 8 for column in outputs["codes"].T]
    assert figures["codebook_usage"] == pytest.approx(np.mean(used))
    assert 1.0 <= figures["codebook_perplexity"] <= 8.0


def test_labels_beyond_32_bits_train_like_small_ones(images_and_labels):
    images, labels = images_and_labels
    network = build_network()
    network.compile("sgd", AsymmetricTripletLoss(), **COMPILE_OPTIONS)
    weights = network.get_weights()

    def train(labels):
        network.set_weights(weights)
        options = {"epochs": 2, "batch_size": 24, "shuffle": False, "verbose": 0}
        data = (images, np.array(labels))
        logs = network.fit(images, labels, validation_data=data, **options).history
        return [*logs["loss"], *logs["val_loss"]]

    wide = (2**32 * labels).tolist()
    assert train(wide) == pytest.approx(train(labels), rel=1e-4)


def test_labels_that_are_names_are_refused_in_one_sentence(images_and_labels):
    images, labels = images_and_labels
    names = np.array(["ant", "bee", "cat", "dog"])[labels]
    for bad in (names, names.tolist(), names.astype(object)):
        with pytest.raises(ValueError, match="numpy.unique"):
            compiled_network().fit(images, bad, verbose=0)


@pytest.mark.parametrize(
    ("items", "make_backbone"),
    [
        (
            "images",
            lambda: keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3)]),
        ),
        ("images", keras.layers.Flatten),
        ("clips", map_backbone),
        ("clips", lambda: clip_backbone(None, keras.layers.Conv3D(4, (2, 4, 4), padding="same"))),
        (
            "clips",
            lambda: clip_backbone(
                4, keras.layers.AveragePooling3D((2, 1, 1)), keras.layers.Reshape((2, 144))
            ),
        ),
    ],
    ids=["unbuilt", "layer", "of frames", "across frames", "of clips to fewer vectors"],
)
def test_any_backbone_of_the_users_works(request, tmp_path, items, make_backbone):
    pixels, labels = request.getfixturevalue(f"{items}_and_labels")
    pixels = pixels.astype("float32")
    make = build_network if items == "images" else build_clip_network
    network = compiled_network(make_backbone(), make=make)
    assert np.isfinite(network.train_on_batch(pixels, labels, return_dict=True)["loss"])
    assert network.image_shape == IMAGE_SHAPE
    outputs = network.predict_on_batch(pixels)
    assert outputs["codes"].shape == (len(pixels), network.quantizer.code_length)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again.predict_on_batch(pixels), outputs)
    assert (again.image_shape, again.num_frames) == (IMAGE_SHAPE, network.num_frames)


@pytest.mark.parametrize(
    ("make", "items", "num_frames"),
    [
        (build_network, IMAGES, None),
        (build_clip_network, CLIPS, None),
        (build_motion_network, CLIPS, None),
        (lambda: build_clip_network(clip_backbone()), CLIPS, 4),
    ],
    ids=["images", "clips by frame", "clips by motion", "clips"],
)
def test_a_network_over_a_known_image_shape_is_complete_from_the_start(make, items, num_frames):
    network = make()
    assert network.built
    assert network.items is items
    assert (network.image_shape, network.num_frames) == (IMAGE_SHAPE, num_frames)
    assert network.quantizer.embedding_dim == (12 if make is build_motion_network else 8)


def test_the_image_shape_is_not_known_before_the_first_batch():
    network = build_network(keras.layers.Flatten())
    assert not network.built
    with pytest.raises(RuntimeError, match="image shape is not known.*Received: None"):
        _ = network.image_shape


def test_images_of_any_size_are_taken_by_a_backbone_that_takes_them():
    backbone = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3)])
    network = build_network(backbone)
    for size in (8, 11):
        assert network(np.zeros((2, size, size, 1), "float32"))["codes"].shape == (2, 2)
    with pytest.raises(RuntimeError, match=r"not known.*Received: \(None, None, None, 1\)"):
        _ = network.image_shape


def test_without_an_embedding_the_features_are_the_embedding(images_and_labels):
    images, labels = images_and_labels
    network = compiled_network(embedding_dim=None)
    assert network.quantizer.embedding_dim == 4  # the backbone's channels
    assert np.isfinite(network.train_on_batch(images, labels, return_dict=True)["loss"])
    pooled = keras.Sequential([map_backbone(), keras.layers.GlobalMaxPooling2D()])
    bare = build_network(pooled, embedding_dim=None, center_embeddings=False)
    features = to_numpy(bare.backbone(images))
    assert_close(bare.embed(images), reference.intra_normalize(features, 2))


def test_centred_embeddings_have_mean_zero_before_normalisation(images_and_labels):
    images, _ = images_and_labels
    network = build_network()
    centred = to_numpy(network.embedding(network.backbone(images), training=True))
    assert_close(centred.mean(axis=0), np.zeros(8), 1e-4)
    # Coordinates of little variance stay below 1 by batch normalisation's epsilon.
    assert (centred.std(axis=0) <= 1.001).all()
    dense = build_network(center_embeddings=False).embedding.layers[-1]
    assert isinstance(dense, keras.layers.Dense)
    assert dense.use_bias


def test_a_quantizer_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match="quantizer must be a layer of tfpqn.layers"):
        build_network(quantizer=keras.layers.Dense(8))
    with pytest.raises(ValueError, match="embedding_dim must be at least 1. Received: 0"):
        build_network(embedding_dim=0)
    with pytest.raises(ValueError, match="resize must be one of .*'crop', 'pad'.*Received: 'cut'"):
        build_network(resize="cut")
    with pytest.raises(ValueError, match="embedding_dim=9, num_subspaces=2"):
        build_network(embedding_dim=9)
    built = ProductQuantization(2, 8)
    built.build((None, 16))
    with pytest.raises(ValueError, match="length 16. Received: embedding_dim=8"):
        build_network(quantizer=built)
    flat = keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Reshape((8, 8))])
    with pytest.raises(ValueError, match=r"must give features .* Received: \(None, 8, 8\)"):
        build_network(flat)
    two = [keras.Input(IMAGE_SHAPE), keras.Input(IMAGE_SHAPE)]
    with pytest.raises(ValueError, match="must have one input. Received: inputs of shapes"):
        build_network(keras.Model(two, keras.layers.Flatten()(two[0])))
    with pytest.raises(ValueError, match="must give features .* Received: .*KerasTensor"):
        build_network(keras.Model(two[0], [keras.layers.Flatten()(two[0])] * 2))


def test_mixed_precision_trains_and_gives_float32_codes_alike(images_and_labels):
    images, labels = images_and_labels
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = compiled_network()
        logs = network.fit(images, labels, batch_size=12, verbose=0).history
        outputs = network.predict(images, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(logs["loss"]).all()
    assert outputs["embeddings"].dtype == outputs["quantized"].dtype == np.float32
    assert {weight.dtype for weight in network.trainable_weights} == {"float32"}
