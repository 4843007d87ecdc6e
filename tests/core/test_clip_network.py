"""Laws of the network over clips, as a Keras user meets it."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import assert_close, assert_same, to_numpy
from tests.training.tiny import (
    build_clip_network,
    build_motion_network,
    build_network,
    clip_backbone,
)
from tests.training.tiny import compiled_network as compiled
from tfpqn.layers import TemporalProductQuantization
from tfpqn.ops import motion_images


def compiled_network(*args, **options):
    return compiled(*args, make=build_clip_network, **options)


@pytest.fixture
def padded(clips_and_labels):
    """Clips of 4, 3 and 2 frames, and what pads them."""
    clips = clips_and_labels[0][:3]
    mask = np.arange(4) < np.array([4, 3, 2])[:, None]
    return {"frames": clips, "mask": mask}


def test_embeddings_are_those_of_the_averaged_features_of_single_frames(clips_and_labels):
    clips = clips_and_labels[0][:3]
    network = build_clip_network(quantizer=TemporalProductQuantization((1, 3), 2, 8))
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


def test_a_user_trains_on_the_order_of_events(clips_and_labels):
    """On arrays whose last batch is smaller."""
    clips, labels = clips_and_labels
    network = compiled_network()
    before = network.evaluate(clips, labels, verbose=0, return_dict=True)["loss"]
    network.fit(clips, labels, epochs=20, batch_size=8, verbose=0)
    figures = network.evaluate(clips, labels, verbose=0, return_dict=True)
    assert figures["loss"] < 0.5 * before


@pytest.mark.parametrize("make", [build_clip_network, build_motion_network])
def test_masked_clips_are_the_shorter_clips_whatever_pads_them(padded, make):
    network = make()
    padded["frames"][~padded["mask"]] = 255
    outputs = {name: to_numpy(x) for name, x in network(padded).items()}
    codes = to_numpy(network.encode(padded))
    np.testing.assert_array_equal(codes, outputs["codes"])
    for row, length in enumerate((4, 3, 2)):
        alone = network(padded["frames"][row : row + 1, :length])
        for name, value in alone.items():
            assert_close(outputs[name][row : row + 1], value, 1e-4)


@pytest.mark.parametrize("make", [build_clip_network, build_motion_network])
def test_a_mask_of_another_length_is_refused(padded, make):
    padded["mask"] = padded["mask"][:, 1:]
    with pytest.raises(ValueError, match=r"mask must be .* like the clips.*shape \(3, 3\)"):
        make()(padded)


def test_a_backbone_is_given_one_motion_image_of_each_segment(padded):
    network = build_motion_network()
    clips = padded["frames"]
    images = [to_numpy(motion_images(clips, number, 2)) for number in (1, 2)]
    images = np.concatenate(images, axis=1).reshape(9, *network.backbone.input_shape[1:])
    features = to_numpy(network.backbone(images)).mean(axis=(1, 2)).reshape(3, 3, 4)
    expected = network.quantizer.normalize(network.embedding(features, training=False))
    assert_close(network.embed(clips), expected, 1e-4)
    with pytest.raises(ValueError, match="motion is for clips and a backbone of images of 2 x"):
        build_clip_network(motion=1)


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


def test_a_backbone_of_clips_is_the_same_as_one_of_frames_if_it_looks_at_each_alone(
    clips_and_labels,
):
    clips, _ = clips_and_labels
    of_frames, of_clips = build_clip_network(), build_clip_network(clip_backbone())
    kernel, bias, *rest = of_frames.get_weights()
    of_clips.set_weights([kernel[None], bias, *rest])
    for name, value in of_frames(clips).items():
        assert_close(of_clips(clips)[name], value, 1e-4)


def test_a_mask_is_refused_by_a_backbone_of_clips(padded):
    network = build_clip_network(clip_backbone())
    with pytest.raises(ValueError, match="A mask needs a backbone of single frames"):
        network(padded)


def test_clips_with_fewer_frames_than_segments_are_refused(clips_and_labels):
    clips, labels = clips_and_labels
    clips = clips[:, :3]
    message = "at least 4 frames, one for each segment. Received: num_frames=3"
    network = compiled_network(quantizer=TemporalProductQuantization((1, 4), 2, 8))
    for method in (network, network.encode, network.predict_on_batch):
        with pytest.raises(ValueError, match=message):
            method(clips)
    with pytest.raises(ValueError, match=message):
        network.fit(clips, labels, verbose=0)
    with pytest.raises(ValueError, match=message):
        build_clip_network(clip_backbone(3), TemporalProductQuantization((1, 4), 2, 8))


def test_a_backbone_that_loses_the_time_axis_is_refused():
    message = r"features \[batch, time, num_features\] .*Received: \(None, \d+\)"
    with pytest.raises(ValueError, match=message):
        build_clip_network(clip_backbone(4, keras.layers.Flatten()))


def test_items_of_another_kind_are_refused(images_and_labels, clips_and_labels, padded):
    (images, labels), (clips, _) = images_and_labels, clips_and_labels
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
        build_network(clip_backbone())
