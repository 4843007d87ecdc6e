"""Laws of the backbones: what they are by name, and what they make of pixels."""

import keras
import numpy as np
import pytest

from tests.core.backend import assert_close, only_tensorflow, to_numpy
from tfpqn.layers import ProductQuantization
from tfpqn.layers.batch_normalization import BatchNormalization
from tfpqn.models import ProductQuantizationNetwork, build_backbone, mirrored
from tfpqn.models.backbones import (
    ApplicationPreprocessing,
    backbone_of_weights,
    image_size_of,
)
from tfpqn.models.small_nets import LocalResponseNormalization
from tfpqn.models.trainable_layers import freeze_first_layers


def pixels(rng, *shape):
    return rng.integers(0, 256, size=shape).astype("uint8")


def layers_of(backbone, *kinds):
    return [layer for layer in backbone.layers if isinstance(layer, kinds)]


def test_weights_that_cannot_be_downloaded_are_an_error_that_says_so(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://example.com/weights.h5")

    fail.__module__ = keras.applications.MobileNetV2.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(ConnectionError, match=r"needs a network.*path.*Received: URL fetch"):
        build_backbone("MobileNetV2", (32, 32, 3), weights="imagenet")


def test_images_of_another_size_are_brought_to_that_of_the_backbone(rng):
    images = pixels(rng, 2, 8, 8, 3)
    backbone = build_backbone("conv3", (8, 8, 3), image_size=16)
    own = build_backbone("conv3", (16, 16, 3))
    own.set_weights(backbone.get_weights())
    enlarged = keras.layers.Resizing(16, 16)(images.astype("float32"))
    assert_close(backbone(images), own(enlarged))


def test_conv3_has_the_layer_sizes_of_the_paper():
    backbone = build_backbone("conv3", (32, 32, 3))
    convolutions = layers_of(backbone, keras.layers.Conv2D)
    assert [layer.filters for layer in convolutions] == [32, 32, 64]
    assert {(layer.kernel_size, layer.padding) for layer in convolutions} == {((5, 5), "same")}
    max_pool, *average_pools = layers_of(
        backbone, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
    )
    assert isinstance(max_pool, keras.layers.MaxPooling2D)
    assert [type(layer).__name__ for layer in average_pools] == ["AveragePooling2D"] * 2
    for pool in (max_pool, *average_pools):
        assert (pool.pool_size, pool.strides) == ((3, 3), (2, 2))
    assert backbone.output_shape == (None, 4 * 4 * 64)


def test_conv3_comes_with_batch_normalisation_or_without():
    with_it = build_backbone("conv3", (8, 8, 1), normalization="batch")
    without = build_backbone("conv3", (8, 8, 1), normalization="none")
    published = build_backbone("conv3", (8, 8, 1), normalization="local_response")
    assert len(layers_of(published, LocalResponseNormalization)) == 2
    for backbone, count in ((with_it, 3), (without, 0), (published, 0)):
        assert len(layers_of(backbone, keras.layers.BatchNormalization)) == count
        # Batch normalisation takes the bias away again.
        assert {layer.use_bias for layer in layers_of(backbone, keras.layers.Conv2D)} == {not count}
    with pytest.raises(ValueError, match=r"one of .*'local_response', 'none'\). Received: 'layer'"):
        build_backbone("conv3", (8, 8, 1), normalization="layer")


@pytest.mark.parametrize("is_trained", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16"])
def test_batch_normalisation_learns_and_answers_as_that_of_keras(rng, tmp_path, is_trained, dtype):
    images, labels = rng.normal(size=(6, 4, 5, 3)), rng.normal(size=(6, 4, 5, 3))
    models = [
        keras.Sequential(
            [
                keras.Input((4, 5, 3)),
                keras.layers.Conv2D(3, 1),
                kind(momentum=0.9, epsilon=0.01, dtype=dtype, trainable=is_trained),
            ]
        )
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    ]
    models[0].set_weights([rng.uniform(0.5, 2, weight.shape) for weight in models[0].weights])
    models[0].save_weights(tmp_path / "keras.weights.h5")
    models[1].load_weights(tmp_path / "keras.weights.h5")
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(images, labels)
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    answers = [model(images, training=False) for model in models]
    assert answers[0].dtype == answers[1].dtype
    pairs = zip(
        *([*model.weights, y] for model, y in zip(models, answers, strict=True)), strict=True
    )
    for pair in pairs:
        assert_close(*(keras.ops.cast(tensor, "float32") for tensor in pair), tolerance)


@only_tensorflow
def test_backbones_normalise_by_the_many_steps_of_keras_only_where_they_must(rng, monkeypatch):
    backbone = build_backbone("resnet9", (8, 8, 3), width=4)
    images = pixels(rng, 4, 8, 8, 3)
    monkeypatch.setattr(keras.layers.BatchNormalization, "call", None)
    has_cpus_alone = f"{BatchNormalization.__module__}._is_tensorflow_on_cpus"
    monkeypatch.setattr(has_cpus_alone, lambda: True)
    for training in (True, False):
        backbone(images, training=training)
    with pytest.raises(TypeError, match="not callable"):
        BatchNormalization(center=False)(rng.normal(size=(2, 3, 3, 1)))
    monkeypatch.setattr(has_cpus_alone, lambda: False)
    with pytest.raises(TypeError, match="not callable"):
        backbone(images)


def test_local_response_normalisation_divides_by_the_mean_square_around(rng):
    features = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    found = to_numpy(LocalResponseNormalization()(features))
    for image, row, column, channel in np.ndindex(features.shape):
        around = features[
            image, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2, channel
        ]
        divisor = (1 + 5e-5 * 127.5**2 * np.square(around).mean()) ** 0.75
        expected = features[image, row, column, channel] / divisor
        assert found[image, row, column, channel] == pytest.approx(expected, rel=1e-5)


def test_resnet9_has_8_convolutions_and_half_the_published_channels():
    backbone = build_backbone("resnet9", (32, 32, 3))
    convolutions = layers_of(backbone, keras.layers.Conv2D)
    assert [layer.filters for layer in convolutions] == [32, 64, 64, 64, 128, 256, 256, 256]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert len(layers_of(backbone, keras.layers.Add)) == 2
    assert backbone.output_shape == (None, 256)


@pytest.mark.parametrize("name", ["conv3", "resnet9"])
def test_pixels_of_any_dtype_and_image_shape_are_taken(rng, name):
    backbone = build_backbone(name, (9, 7, 1))
    images = pixels(rng, 2, 9, 7, 1)
    features = backbone.predict_on_batch(images)
    assert features.shape == (2, backbone.output_shape[1])
    assert np.isfinite(features).all()
    for dtype in ("int32", "float32"):
        assert_close(backbone.predict_on_batch(images.astype(dtype)), features, 1e-6)


def test_a_mirrored_backbone_gives_an_image_and_its_mirror_image_their_mean_features(rng):
    backbone = build_backbone("conv3", (8, 6, 3))
    images = pixels(rng, 2, 8, 6, 3)
    flipped = images[:, :, ::-1]
    expected = (to_numpy(backbone(images)) + to_numpy(backbone(flipped))) / 2
    both = mirrored(backbone)
    again = keras.Model.from_config(both.get_config())
    again.set_weights(backbone.get_weights())
    for model, given in ((both, images), (both, flipped), (again, images)):
        assert_close(model(given), expected, 1e-5)


@pytest.mark.parametrize("name", ["conv3", pytest.param("MobileNetV2", marks=pytest.mark.slow)])
def test_a_backbone_in_half_precision_is_near_the_one_in_full(rng, name):
    full = build_backbone(name, (32, 32, 3), dtype="float32")
    half = build_backbone(name, (32, 32, 3), dtype="mixed_bfloat16")
    half.set_weights(full.get_weights())
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert keras.backend.standardize_dtype(half.output.dtype) == "bfloat16"
    images = pixels(rng, 4, 32, 32, 3)
    expected = to_numpy(full(images))
    found = to_numpy(keras.ops.cast(half(images), "float32"))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_the_policy_of_a_backbone_is_that_of_no_other_layer():
    build_backbone("conv3", (8, 8, 1), dtype="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(ValueError, match="one of"):
        build_backbone("conv3", (8, 8, 1), dtype="mixed_bfloat16", normalization="layer")
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNetV2", keras.applications.mobilenet_v2),  # to -1 .. 1
        ("ResNet50", keras.applications.resnet50),  # BGR less the mean colour
        ("DenseNet121", keras.applications.densenet),  # less mean, by standard deviation
        ("EfficientNetB0", keras.applications.efficientnet),  # scales inside
    ],
)
def test_applications_get_the_pixels_that_they_were_trained_on(rng, name, module):
    images = pixels(rng, 2, 4, 4, 3)
    preprocessing = ApplicationPreprocessing(name)
    again = keras.layers.deserialize(keras.layers.serialize(preprocessing))
    expected = to_numpy(module.preprocess_input(images.astype("float32")))
    for layer in (preprocessing, again):
        assert_close(layer(images), expected, 1e-6)
    assert_close(preprocessing(images.astype("float32")), expected, 1e-6)


@pytest.mark.slow
def test_an_application_is_built_by_name_with_options_and_its_own_scaling():
    backbone = build_backbone("MobileNet", (32, 32, 3), alpha=0.25)
    assert backbone.output_shape == (None, 256)
    assert backbone.layers[0].name == "images"
    (preprocessing,) = layers_of(backbone, ApplicationPreprocessing)
    assert preprocessing.application == "MobileNet"


@pytest.mark.slow
def test_an_application_has_the_weights_and_the_features_that_keras_gives_it(rng, tmp_path):
    shape = {"input_shape": (32, 32, 3), "include_top": False, "pooling": "avg"}
    published = keras.applications.EfficientNetB0(weights=None, **shape)
    varied = [array * rng.uniform(0.8, 1.2, array.shape) for array in published.get_weights()]
    published.set_weights(varied)
    (scaling,) = layers_of(published, keras.layers.Normalization)
    scaling.load_own_variables({"0": np.full(3, 0.4), "1": np.full(3, 0.05), "2": 0})
    published.save_weights(tmp_path / "published.weights.h5")
    backbone = build_backbone(
        "EfficientNetB0", (32, 32, 3), weights=tmp_path / "published.weights.h5"
    )
    images = pixels(rng, 32, 32, 32, 3)
    expected = to_numpy(published(images.astype("float32")))
    assert_close(backbone(images) / expected.std(), expected / expected.std(), 1e-4)
    (inner,) = layers_of(backbone, keras.Model)
    kinds = {type(layer) for layer in layers_of(inner, keras.layers.BatchNormalization)}
    assert kinds == {BatchNormalization}


def test_a_users_own_model_is_a_backbone_of_images_of_one_size(tmp_path):
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(tmp_path / "mine.keras")
    path = str(tmp_path / "mine.keras")
    assert backbone_of_weights(path) == "keras" and image_size_of("keras", path) == 224
    backbone = build_backbone("keras", (16, 16, 3), weights=path)
    assert backbone.output_shape == (None, 14, 14, 4)
    with pytest.raises(ValueError, match=r"images \(16, 16, 1\). Received: one of .*3\)"):
        build_backbone("keras", (16, 16, 1), weights=path)
    with pytest.raises(FileNotFoundError, match="needs weights"):
        build_backbone("keras", (16, 16, 3))


def test_a_whole_network_of_vectors_is_no_backbone(tmp_path):
    network = ProductQuantizationNetwork(None, ProductQuantization(2, 4), None)
    network.build((None, 8))
    network.save(tmp_path / "network.keras")
    with pytest.raises(
        ValueError, match=r"network\.keras must hold a Functional.*Received: a Prod"
    ):
        image_size_of("keras", str(tmp_path / "network.keras"))


def test_weights_that_tell_no_backbone_need_its_name(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="backbone must be named"):
        backbone_of_weights(str(tmp_path / "other.npz"))
    assert backbone_of_weights(None) == "conv3"


def test_the_first_layers_that_do_not_learn_keep_their_statistics_too(rng):
    """Also where the net is a layer of the backbone, as those of `keras.applications` are."""
    inputs = keras.Input((8, 8, 3))
    backbone = keras.Model(inputs, build_backbone("resnet9", (8, 8, 3), width=4)(inputs))
    own = [layer for layer in backbone.layers[1].layers if layer.weights]
    freeze_first_layers(backbone, 0.25)
    assert [layer.trainable for layer in own] == [False] * 12 + [True] * 4
    before = [layer.get_weights() for layer in own]
    backbone(pixels(rng, 4, 8, 8, 3), training=True)
    for layer, weights in zip(own, before, strict=True):
        is_same = all(map(np.array_equal, layer.get_weights(), weights))
        learns_statistics = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        assert is_same != learns_statistics
    freeze_first_layers(backbone, 0.001)
    assert [layer.trainable for layer in own] == [False] * 15 + [True]
