"""Laws of the network over clips and of the loss on levels, as a Keras user meets them."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import BACKEND, assert_close, only_tensorflow, to_numpy
from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork

FRAME_SHAPE = (6, 6, 1)

# A plain graph is compiled faster than XLA's; JAX has no other compiler.
COMPILE_OPTIONS = {"jit_compile": False} if BACKEND == "tensorflow" else {}


def frame_backbone(*layers):
    """What a user may bring: layers over single images that end in feature maps."""
    return keras.Sequential(
        [
            keras.Input(FRAME_SHAPE),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            *layers,
        ]
    )


def clip_backbone(num_frames=4, *layers):
    """Layers over clips, which keep the time axis."""
    return keras.Sequential(
        [
            keras.Input((num_frames, *FRAME_SHAPE)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv3D(4, (1, 3, 3), activation="relu"),
            *layers,
        ]
    )


def make_network(backbone=None, quantizer=None, **options):
    return ProductQuantizationNetwork(
        backbone or frame_backbone(),
        quantizer or TemporalProductQuantization(2, 2, 8),
        **{"embedding_dim": 4, **options},
    )


def compiled_network(*args, loss=None, **options):
    network = make_network(*args, **options)
    network.compile(
        keras.optimizers.Adam(0.01),
        loss or AsymmetricTripletLoss("softplus", scale=4.0),
        **COMPILE_OPTIONS,
    )
    return network


def make_clips(rng, count=12, num_frames=4):
    """Two classes that differ in the order alone: it grows bright, or it grows dark."""
    labels = np.arange(count) % 2
    clips = rng.integers(0, 100, size=(count, num_frames, *FRAME_SHAPE))
    half = num_frames // 2
    clips[labels == 0, :half] += 150
    clips[labels == 1, half:] += 150
    return clips.astype("uint8"), labels


@pytest.fixture
def clips_and_labels(rng):
    return make_clips(rng)


@pytest.fixture
def padded(rng):
    """Clips of 4, 3 and 2 frames, and what pads them."""
    clips, _ = make_clips(rng, count=3)
    mask = np.arange(4) < np.array([4, 3, 2])[:, None]
    return {"frames": clips, "mask": mask}


def assert_same_outputs(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(to_numpy(first[name]), to_numpy(second[name]), name)


def test_outputs_are_named_and_have_their_dtypes(clips_and_labels):
    clips, _ = clips_and_labels
    network = make_network(quantizer=TemporalProductQuantization((1, 2), 2, 8, levels=2))
    for outputs in (network(clips), network(clips, training=True)):
        assert {
            name: (tuple(value.shape), keras.backend.standardize_dtype(value.dtype))
            for name, value in outputs.items()
        } == {
            "embeddings": ((12, 12), "float32"),
            "quantized": ((12, 12), "float32"),
            "codes": ((12, 12), "uint8"),
        }


def test_a_network_of_clips_is_complete_from_the_start():
    network = make_network()
    assert network.built
    assert network.takes_clips
    assert network.image_shape == FRAME_SHAPE
    assert network.num_frames is None
    assert network.quantizer.embedding_dim == 8
    network = make_network(clip_backbone())
    assert (network.image_shape, network.num_frames) == (FRAME_SHAPE, 4)
    images = make_network(quantizer=ProductQuantization(2, 8))
    assert not images.takes_clips
    assert images.num_frames is None


def test_embeddings_are_those_of_the_averaged_features_of_single_frames(clips_and_labels):
    clips = clips_and_labels[0][:3]
    network = make_network(quantizer=TemporalProductQuantization((1, 3), 2, 8))
    # Moving averages that differ from segment to segment, so that their place counts.
    centering = network.embedding.get_layer("centering")
    centering.moving_mean.assign(np.linspace(-1.0, 1.0, 16))
    dense = next(x for x in network.embedding.layers if isinstance(x, keras.layers.Dense))
    features = np.array(
        [
            [to_numpy(network.backbone(frame[None]))[0].mean(axis=(0, 1)) for frame in clip]
            for clip in clips
        ]
    )
    segments = reference.pool_clips(features, (1, 3)).reshape(3, 4, 4)
    embeddings = (segments @ to_numpy(dense.kernel)).reshape(3, 16)
    embeddings -= to_numpy(centering.moving_mean)
    expected = reference.intra_normalize(embeddings, 8)
    assert_close(network.embed(clips), expected, 1e-4)
    outputs = {name: to_numpy(x) for name, x in network(clips).items()}
    assert_close(outputs["embeddings"], expected, 1e-4)
    np.testing.assert_array_equal(to_numpy(network.encode(clips)), outputs["codes"])
    assert_close(outputs["quantized"], network.quantizer.decode(outputs["codes"]))


def test_a_user_trains_on_the_order_of_events_saves_and_goes_on(clips_and_labels, tmp_path):
    """On arrays whose last batch is smaller."""
    clips, labels = clips_and_labels
    network = compiled_network()
    before = network.evaluate(clips, labels, verbose=0, return_dict=True)["loss"]
    network.fit(clips, labels, epochs=25, batch_size=9, verbose=0)
    figures = network.evaluate(clips, labels, verbose=0, return_dict=True)
    assert figures["loss"] < 0.5 * before
    outputs = network.predict(clips, verbose=0)

    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again.predict(clips, verbose=0), outputs)
    assert again.quantizer.codebook_fingerprint() == network.quantizer.codebook_fingerprint()
    assert (again.image_shape, again.num_frames) == (FRAME_SHAPE, None)
    again.fit(clips, labels, verbose=0)


def test_every_trainable_weight_moves(clips_and_labels):
    clips, labels = clips_and_labels
    network = compiled_network()
    before = {weight.path: to_numpy(weight).copy() for weight in network.trainable_weights}
    network.train_on_batch(clips, labels)
    assert len(before) == 4  # convolution and its bias, embedding without bias, codebooks
    for weight in network.trainable_weights:
        assert not np.array_equal(to_numpy(weight), before[weight.path]), weight.path


def test_clips_of_any_number_of_frames_have_codes_of_one_length(rng):
    network = make_network()
    for num_frames in (2, 3, 9):
        clips, _ = make_clips(rng, 3, num_frames)
        assert network.encode(clips).shape == (3, 4)
        assert network.predict_on_batch(clips)["codes"].shape == (3, 4)


@pytest.mark.parametrize("noise", [0, 255])
def test_masked_clips_are_the_shorter_clips_whatever_pads_them(padded, noise):
    network = make_network()
    padded["frames"][~padded["mask"]] = noise
    outputs = {name: to_numpy(x) for name, x in network(padded).items()}
    codes = to_numpy(network.encode(padded))
    np.testing.assert_array_equal(codes, outputs["codes"])
    for row, length in enumerate((4, 3, 2)):
        alone = network(padded["frames"][row : row + 1, :length])
        for name, value in alone.items():
            assert_close(outputs[name][row : row + 1], value, 1e-4)


def test_masked_clips_are_fitted_evaluated_and_predicted(clips_and_labels):
    clips, labels = clips_and_labels
    mask = np.arange(4) < np.where(np.arange(12) < 6, 4, 3)[:, None]
    padded = {"frames": clips, "mask": mask}
    network = compiled_network()
    history = network.fit(padded, labels, epochs=2, batch_size=8, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(network.evaluate(padded, labels, verbose=0, return_dict=True)["loss"])
    predicted = network.predict(padded, batch_size=5, verbose=0)
    np.testing.assert_array_equal(predicted["codes"], to_numpy(network.encode(padded)))


def test_a_mask_of_all_frames_changes_nothing(clips_and_labels):
    clips, _ = clips_and_labels
    network = make_network()
    outputs = network({"frames": clips, "mask": np.ones((12, 4), bool)})
    for name, value in network(clips).items():
        assert_close(outputs[name], value)


def functional_backbone():
    inputs = keras.Input(FRAME_SHAPE)
    maps = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(maps))


@pytest.mark.parametrize(
    "make_backbone",
    [
        functional_backbone,
        lambda: keras.layers.Flatten(),
        lambda: clip_backbone(None, keras.layers.Conv3D(4, (2, 4, 4), padding="same")),
        lambda: clip_backbone(
            4, keras.layers.AveragePooling3D((2, 1, 1)), keras.layers.Reshape((2, 64))
        ),
    ],
    ids=["functional", "layer", "across frames", "of clips to fewer vectors"],
)
def test_any_backbone_of_the_users_works(clips_and_labels, make_backbone, tmp_path):
    clips, labels = clips_and_labels
    clips = clips.astype("float32")
    network = compiled_network(make_backbone())
    assert np.isfinite(network.train_on_batch(clips, labels, return_dict=True)["loss"])
    assert network.image_shape == FRAME_SHAPE
    outputs = network.predict_on_batch(clips)
    assert outputs["codes"].shape == (12, 4)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again.predict_on_batch(clips), outputs)
    assert (again.image_shape, again.num_frames) == (FRAME_SHAPE, network.num_frames)


def test_a_backbone_of_clips_is_the_same_as_one_of_frames_if_it_looks_at_each_alone(rng):
    clips, _ = make_clips(rng)
    of_frames, of_clips = make_network(), make_network(clip_backbone())
    kernel, bias, *rest = of_frames.get_weights()
    of_clips.set_weights([kernel[None], bias, *rest])
    for name, value in of_frames(clips).items():
        assert_close(of_clips(clips)[name], value, 1e-4)


def test_a_mask_is_refused_by_a_backbone_of_clips(padded):
    network = make_network(clip_backbone())
    with pytest.raises(ValueError, match="A mask needs a backbone of single frames"):
        network(padded)


def test_without_an_embedding_the_averaged_features_are_the_embedding(clips_and_labels):
    clips, labels = clips_and_labels
    network = compiled_network(embedding_dim=None)
    assert network.quantizer.embedding_dim == 8  # the backbone's channels, twice
    assert np.isfinite(network.train_on_batch(clips, labels, return_dict=True)["loss"])
    bare = make_network(embedding_dim=None, center_embeddings=False)
    features = to_numpy(bare.backbone(clips.reshape(48, *FRAME_SHAPE))).mean(axis=(1, 2))
    pooled = reference.pool_clips(features.reshape(12, 4, 4), (2,))
    assert_close(bare.embed(clips), reference.intra_normalize(pooled, 4), 1e-4)


def test_images_are_refused_by_a_network_of_clips(rng):
    images = rng.integers(0, 256, size=(4, *FRAME_SHAPE)).astype("uint8")
    message = r"takes clips \[batch, num_frames, height.*Received: a batch of rank 4"
    for network in (compiled_network(), compiled_network(clip_backbone())):
        for method in (network, network.encode, network.embed, network.predict_on_batch):
            with pytest.raises(ValueError, match=message):
                method(images)
    with pytest.raises(ValueError, match=message):
        make_network(keras.layers.Flatten())(images)
    with pytest.raises(ValueError, match=message):
        compiled_network().fit(images, np.arange(4) % 2, verbose=0)


def test_clips_are_refused_by_a_network_of_images(clips_and_labels, padded):
    clips, labels = clips_and_labels
    message = r"takes images \[batch, height.*Received: a batch of rank 5"
    network = compiled_network(quantizer=ProductQuantization(2, 8))
    for method in (network, network.encode, network.embed, network.predict_on_batch):
        with pytest.raises(ValueError, match=message):
            method(clips)
    with pytest.raises(ValueError, match=message):
        network.fit(clips, labels, verbose=0)
    with pytest.raises(ValueError, match=message):
        make_network(keras.layers.Flatten(), ProductQuantization(2, 8))(clips)
    with pytest.raises(ValueError, match=message):
        make_network(clip_backbone(), ProductQuantization(2, 8))


def test_masked_clips_are_refused_by_a_network_of_images(padded):
    network = make_network(quantizer=ProductQuantization(2, 8))
    for method in (network, network.encode):
        with pytest.raises(ValueError, match=r"takes images \[batch, height"):
            method(padded)


def test_clips_with_fewer_frames_than_segments_are_refused(rng):
    clips, labels = make_clips(rng, 4, 3)
    message = "at least 4 frames, one for each segment. Received: num_frames=3"
    network = compiled_network(quantizer=TemporalProductQuantization((1, 4), 2, 8))
    for method in (network, network.encode, network.predict_on_batch):
        with pytest.raises(ValueError, match=message):
            method(clips)
    with pytest.raises(ValueError, match=message):
        network.fit(clips, labels, verbose=0)
    with pytest.raises(ValueError, match=message):
        make_network(clip_backbone(3), TemporalProductQuantization((1, 4), 2, 8))


def test_a_backbone_that_loses_the_time_axis_is_refused():
    message = r"features \[batch, time, num_features\] .*Received: features of rank 2"
    with pytest.raises(ValueError, match=message):
        make_network(clip_backbone(4, keras.layers.Flatten()))


def test_a_quantizer_built_for_another_length_is_refused():
    quantizer = TemporalProductQuantization(2, 2, 8)
    quantizer.build((None, None, 6))
    with pytest.raises(ValueError, match="length 12. Received: embedding_dim=8"):
        make_network(quantizer=quantizer)


def test_codebooks_are_fitted_to_the_networks_embeddings(clips_and_labels):
    clips, _ = clips_and_labels
    network = make_network()
    network.quantizer.fit_codebooks(
        to_numpy(network.embed(clips)), lambda vectors, num_clusters: vectors[:num_clusters]
    )
    outputs = network(clips[:8])
    # Of two codewords closer than the square root of a float's rounding, either may be chosen.
    assert_close(outputs["quantized"], outputs["embeddings"], 2e-3)


@only_tensorflow
def test_keras_exports_it_as_a_saved_model(clips_and_labels, tmp_path):
    import tensorflow as tf

    clips, _ = clips_and_labels
    network = compiled_network()
    outputs = network.predict(clips, verbose=0)
    network.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    assert_same_outputs(served.serve(clips.astype("float32")), outputs)


@pytest.mark.parametrize("quantizer", ["residual", "temporal"])
def test_the_level_loss_is_added_for_each_shorter_partial_sum(rng, quantizer):
    clips, labels = make_clips(rng)
    if quantizer == "residual":
        images, make = clips[:, 0], lambda: ResidualProductQuantization(3, 2, 4)
    else:
        images, make = clips, lambda: TemporalProductQuantization(2, 2, 4, levels=3)
    loss = AsymmetricTripletLoss("hinge", margin=0.2)
    network = compiled_network(quantizer=make(), loss=loss, level_loss_weight=0.3)
    outputs = network.predict(images, verbose=0)
    sums = outputs["partial_sums"]
    assert sums.shape == (12, 3, network.quantizer.embedding_dim)
    np.testing.assert_array_equal(sums[:, -1], outputs["quantized"])
    codes = outputs["codes"]
    for level in (1, 2, 3):
        shorter = network.quantizer.prefix(level)
        assert_close(sums[:, level - 1], shorter.decode(codes[:, : shorter.code_length]))
    relevance = np.equal.outer(labels, labels)
    losses = [
        reference.asymmetric_triplet_loss(
            relevance, outputs["embeddings"], sums[:, level], "hinge", 2, 0.2
        )
        for level in range(3)
    ]
    each = losses[2] + 0.3 * (losses[0] + losses[1])
    options = {"batch_size": 12, "verbose": 0, "return_dict": True}
    figures = network.evaluate(images, labels, **options)
    assert figures["loss"] == pytest.approx(each.mean(), rel=1e-4)
    weights = rng.uniform(size=12).astype("float32")
    figures = network.evaluate(images, labels, sample_weight=weights, **options)
    assert figures["loss"] == pytest.approx((weights * each).mean(), rel=1e-4)


def test_a_network_with_a_level_loss_trains_and_comes_back_from_a_file(clips_and_labels, tmp_path):
    images, labels = clips_and_labels[0][:, 0], clips_and_labels[1]
    network = compiled_network(
        quantizer=ResidualProductQuantization(2, 2, 4), level_loss_weight=0.5
    )
    history = network.fit(images, labels, epochs=30, batch_size=12, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert again.level_loss_weight == 0.5
    assert_same_outputs(again.predict(images, verbose=0), network.predict(images, verbose=0))
    options = {"verbose": 0, "return_dict": True}
    figures = network.evaluate(images, labels, **options)
    assert again.evaluate(images, labels, **options) == pytest.approx(figures, rel=1e-5)


def test_a_level_loss_of_one_level_adds_nothing(clips_and_labels):
    images, labels = clips_and_labels[0][:, 0], clips_and_labels[1]
    losses = []
    for weight in (0.0, 2.0):
        keras.utils.set_random_seed(0)
        network = compiled_network(quantizer=ProductQuantization(2, 8), level_loss_weight=weight)
        losses.append(network.test_on_batch(images, labels, return_dict=True)["loss"])
    assert losses[0] == losses[1]


def test_a_loss_that_is_no_keras_loss_is_refused_for_levels(clips_and_labels):
    images, labels = clips_and_labels[0][:, 0], clips_and_labels[1]

    def distortion(_, pairs):
        return keras.ops.mean(keras.ops.square(pairs[:, 0] - pairs[:, 1]), axis=-1)

    network = compiled_network(
        quantizer=ResidualProductQuantization(2, 2, 4), loss=distortion, level_loss_weight=0.5
    )
    with pytest.raises(ValueError, match="level_loss_weight needs a loss that is a keras"):
        network.test_on_batch(images, labels)


def test_a_level_loss_without_trained_levels_is_refused():
    quantizer = ResidualProductQuantization(2, 2, 4, residuals="reconstructions")
    with pytest.raises(ValueError, match=r"level_loss_weight must be 0 .* Received: 0\.5"):
        make_network(quantizer=quantizer, level_loss_weight=0.5)


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_a_negative_level_loss_weight_is_refused(weight):
    message = f"level_loss_weight must be finite and at least 0. Received: {weight}"
    with pytest.raises(ValueError, match=message):
        make_network(level_loss_weight=weight)


def test_the_configuration_comes_back():
    network = make_network(
        quantizer=TemporalProductQuantization((1, 2), 2, 8, levels=2, share_codebooks=True),
        embedding_dim=6,
        center_embeddings=False,
        level_loss_weight=0.25,
        name="birds",
    )
    again = ProductQuantizationNetwork.from_config(network.get_config())
    assert (again.name, again.embedding_dim, again.center_embeddings) == ("birds", 6, False)
    assert again.level_loss_weight == 0.25
    assert again.quantizer.get_config() == network.quantizer.get_config()
    shapes = [[tuple(weight.shape) for weight in x.weights] for x in (network, again)]
    assert shapes[0] == shapes[1]


def test_mixed_precision_trains_and_gives_float32_codes_alike(clips_and_labels):
    clips, labels = clips_and_labels
    mask = np.arange(4) < np.full((12, 1), 3)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = compiled_network()
        padded = {"frames": clips, "mask": mask}
        logs = network.fit(padded, labels, batch_size=6, verbose=0).history
        outputs = network.predict(padded, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(logs["loss"]).all()
    assert outputs["embeddings"].dtype == outputs["quantized"].dtype == np.float32
    assert {weight.dtype for weight in network.trainable_weights} == {"float32"}
