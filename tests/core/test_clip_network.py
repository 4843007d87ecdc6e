"""Laws of the network over clips, as a Keras user meets it."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import assert_close, assert_same, to_numpy
from tests.core.networks import (
    IMAGE_SHAPE,
    assert_same_outputs,
    clip_backbone,
    make_clip_network,
    make_clips,
    make_images,
    make_network,
)
from tests.core.networks import compiled_network as compiled
from tfpqn.items import CLIPS, IMAGES
from tfpqn.layers import TemporalProductQuantization


def compiled_network(*args, **options):
    return compiled(*args, make=make_clip_network, **options)


@pytest.fixture
def clips_and_labels(rng):
    return make_clips(rng)


@pytest.fixture
def padded(rng):
    """Clips of 4, 3 and 2 frames, and what pads them."""
    clips, _ = make_clips(rng, count=3)
    mask = np.arange(4) < np.array([4, 3, 2])[:, None]
    return {"frames": clips, "mask": mask}


def test_a_network_of_clips_is_complete_from_the_start():
    network = make_clip_network()
    assert network.built
    assert network.items is CLIPS
    assert network.image_shape == IMAGE_SHAPE
    assert network.num_frames is None
    assert network.quantizer.embedding_dim == 8
    network = make_clip_network(clip_backbone())
    assert (network.image_shape, network.num_frames) == (IMAGE_SHAPE, 4)
    images = make_network()
    assert images.items is IMAGES
    assert images.num_frames is None


def test_embeddings_are_those_of_the_averaged_features_of_single_frames(clips_and_labels):
    clips = clips_and_labels[0][:3]
    network = make_clip_network(quantizer=TemporalProductQuantization((1, 3), 2, 8))
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
    assert_same(network.encode(clips), outputs["codes"])
    assert_close(outputs["quantized"], network.quantizer.decode(outputs["codes"]))


def test_a_user_trains_on_the_order_of_events_saves_and_goes_on(clips_and_labels, tmp_path):
    """On arrays whose last batch is smaller."""
    clips, labels = clips_and_labels
    network = compiled_network()
    before = network.evaluate(clips, labels, verbose=0, return_dict=True)["loss"]
    network.fit(clips, labels, epochs=15, batch_size=6, verbose=0)
    figures = network.evaluate(clips, labels, verbose=0, return_dict=True)
    assert figures["loss"] < 0.5 * before
    outputs = network.predict(clips, verbose=0)

    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again.predict(clips, verbose=0), outputs)
    assert again.quantizer.codebook_fingerprint() == network.quantizer.codebook_fingerprint()
    assert (again.image_shape, again.num_frames) == (IMAGE_SHAPE, None)
    again.fit(clips, labels, verbose=0)


def test_masked_clips_are_the_shorter_clips_whatever_pads_them(padded):
    network = make_clip_network()
    padded["frames"][~padded["mask"]] = 255
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


@pytest.mark.parametrize(
    "make_backbone",
    [
        lambda: clip_backbone(None, keras.layers.Conv3D(4, (2, 4, 4), padding="same")),
        lambda: clip_backbone(
            4, keras.layers.AveragePooling3D((2, 1, 1)), keras.layers.Reshape((2, 144))
        ),
    ],
    ids=["across frames", "of clips to fewer vectors"],
)
def test_any_backbone_of_the_users_works(clips_and_labels, make_backbone, tmp_path):
    clips, labels = clips_and_labels
    clips = clips.astype("float32")
    network = compiled_network(make_backbone())
    assert np.isfinite(network.train_on_batch(clips, labels, return_dict=True)["loss"])
    assert network.image_shape == IMAGE_SHAPE
    outputs = network.predict_on_batch(clips)
    assert outputs["codes"].shape == (12, 4)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert_same_outputs(again.predict_on_batch(clips), outputs)
    assert (again.image_shape, again.num_frames) == (IMAGE_SHAPE, network.num_frames)


def test_a_backbone_of_clips_is_the_same_as_one_of_frames_if_it_looks_at_each_alone(rng):
    clips, _ = make_clips(rng)
    of_frames, of_clips = make_clip_network(), make_clip_network(clip_backbone())
    kernel, bias, *rest = of_frames.get_weights()
    of_clips.set_weights([kernel[None], bias, *rest])
    for name, value in of_frames(clips).items():
        assert_close(of_clips(clips)[name], value, 1e-4)


def test_a_mask_is_refused_by_a_backbone_of_clips(padded):
    network = make_clip_network(clip_backbone())
    with pytest.raises(ValueError, match="A mask needs a backbone of single frames"):
        network(padded)


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
        make_clip_network(clip_backbone(3), TemporalProductQuantization((1, 4), 2, 8))


def test_a_backbone_that_loses_the_time_axis_is_refused():
    message = r"features \[batch, time, num_features\] .*Received: features of rank 2"
    with pytest.raises(ValueError, match=message):
        make_clip_network(clip_backbone(4, keras.layers.Flatten()))


def test_items_of_another_kind_are_refused(rng, padded):
    (images, labels), (clips, _) = make_images(rng), make_clips(rng)
    of_clips = "takes clips \\[batch, num_frames, height.*Received: a batch of rank 4"
    of_images = "takes images \\[batch, height.*Received: a batch of rank 5"
    cases = [
        (compiled_network(), images, of_clips),
        (compiled_network(clip_backbone()), images, of_clips),
        (compiled_network(keras.layers.Flatten()), images, of_clips),
        (compiled(), clips, of_images),
        (compiled(keras.layers.Flatten()), clips, of_images),
        (compiled(), padded, of_images),
    ]
    for network, items, message in cases:
        for method in (network, network.encode, network.embed, network.predict_on_batch):
            with pytest.raises(ValueError, match=message):
                method(items)
    with pytest.raises(ValueError, match=of_clips):
        compiled_network().fit(images, labels, verbose=0)
    with pytest.raises(ValueError, match=of_images):
        make_network(clip_backbone())
