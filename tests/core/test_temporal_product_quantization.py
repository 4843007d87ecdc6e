"""Laws of temporal product quantization as a layer: clips against loops over their segments."""

import keras
import numpy as np
import pytest
from keras import ops

from tests import reference
from tests.core.backend import assert_close, assert_same, gradients, to_numpy
from tests.core.quantizers import draw, temporal
from tfpqn.layers import TemporalProductQuantization


def draw_mask(*lengths):
    return np.arange(max(lengths)) < np.array(lengths)[:, None]


def test_a_masked_clip_is_the_shorter_clip(rng):
    layer = temporal((1, 2, 3), 2, 8, 4, levels=2)
    lengths = (6, 4, 3)
    clips, mask = draw(rng, 3, 6, 4), draw_mask(*lengths)
    clips[~mask] = np.nan
    codes, tables = layer.encode(clips, mask), layer.lookup_tables(clips, mask)
    for row, length in enumerate(lengths):
        shorter = clips[row : row + 1, :length]
        assert_same(to_numpy(codes)[row : row + 1], layer.encode(shorter))
        assert_close(to_numpy(tables)[row : row + 1], layer.lookup_tables(shorter))
        normalized = to_numpy(layer.normalize(clips, mask))[row : row + 1]
        assert_close(normalized, layer.normalize(shorter))
        for training in (False, True):
            outputs = to_numpy(layer(clips, training=training, mask=mask))[row : row + 1]
            assert_close(outputs, layer(shorter, training=training))


def test_a_clip_without_frames_is_a_zero_embedding(rng):
    layer = temporal(2, 2, 8, 4, levels=2)
    clips, mask = np.full((2, 3, 4), np.nan, "float32"), np.zeros((2, 3), bool)
    assert_same(layer.normalize(clips, mask), np.zeros((2, 8)))
    assert_same(layer.encode(clips, mask), layer.encode(np.zeros((2, 8), "float32")))
    (gradient,) = gradients(lambda x: ops.sum(layer(x, training=True, mask=mask)), clips)
    assert_same(gradient, np.zeros(clips.shape))


def test_pooled_clips_are_taken_as_the_clips_themselves(rng):
    layer = temporal((1, 2), 2, 8, 4, levels=2)
    clips = draw(rng, 10, 5, 4)
    segments = to_numpy(layer.pool_frames(clips))
    assert segments.shape == (10, 3, 4)
    assert_close(segments.reshape(10, 12), reference.pool_clips(clips, (1, 2)))
    for pooled in (segments.reshape(10, 12), layer.normalize(clips)):
        assert_same(layer.encode(pooled), layer.encode(clips))
        assert_close(layer.lookup_tables(pooled), layer.lookup_tables(clips))
        assert_close(layer(pooled, training=True), layer(clips, training=True))


def test_the_gradient_reaches_every_frame_and_its_codebooks(rng):
    layer = temporal((1, 2), 2, 8, 4)
    clips = draw(rng, 3, 5, 4)
    mask = draw_mask(5, 3, 2)
    clips[~mask] = np.nan
    weights = draw(rng, 3, 12)

    def total(clips, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], clips, training=True, mask=mask)
        return ops.sum(ops.multiply(weights, outputs))

    by_clips, by_codebooks = gradients(total, clips, to_numpy(layer.codebooks))
    assert (np.abs(by_clips[mask]).max(axis=-1) > 1e-6).all()
    assert_same(by_clips[~mask], np.zeros((5, 4)))
    assert (np.abs(by_codebooks).max(axis=(2, 3)) > 1e-6).all()


def clip_model(layer, frame_dim):
    clips = keras.Input((None, frame_dim), name="clips")
    mask = keras.Input((None,), dtype="bool", name="mask")
    return keras.Model([clips, mask], layer(clips, mask=mask))


def test_a_functional_model_takes_clips_of_any_length_and_comes_back(rng, tmp_path):
    layer = TemporalProductQuantization(2, 2, 8)
    model = clip_model(layer, 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert model.output_shape == (None, 8)
    for lengths in ((5, 3, 2), (2, 2)):
        mask = draw_mask(*lengths)
        clips = draw(rng, *mask.shape, 4)
        assert_close(model([clips, mask]), layer(clips, mask=mask), 1e-6)
        assert_same(again([clips, mask]), model([clips, mask]))


def test_the_mask_that_a_keras_layer_attaches_is_used(rng):
    layer = TemporalProductQuantization(2, 2, 8)
    clips, mask = draw(rng, 3, 5, 4), draw_mask(5, 3, 2)
    clips[~mask] = 0.0
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Masking(), layer])
    assert_close(model(clips), layer(clips, mask=mask), 1e-6)


def test_frames_must_be_finite_but_padding_need_not_be(rng):
    layer = temporal(2, 2, 8, 4)
    clips, mask = draw(rng, 3, 5, 4), draw_mask(5, 3, 2)
    clips[1, 4] = np.nan
    layer.encode(clips, mask)
    for method in (layer.encode, layer.lookup_tables):
        with pytest.raises(ValueError, match="finite.* in 1 of 3 rows, the first at row 1"):
            method(clips)


def test_clips_of_the_wrong_shape_are_refused(rng):
    layer = temporal(2, 2, 8, 4)
    message = r"clips \[batch, num_frames, 4\], or pooled clips \[batch, 8\]. Received: "
    for shape in ((2, 5, 6), (2, 5, 8), (2, 4), (8,), (2, 3, 5, 4)):
        for method in (layer, layer.encode, layer.lookup_tables, layer.normalize):
            with pytest.raises(ValueError, match=message):
                method(np.ones(shape, "float32"))


def test_a_length_that_does_not_divide_is_refused():
    message = "embedding_dim=15, num_subspaces=2, 3 segments"
    for shape in ((None, None, 5), (None, 15)):
        with pytest.raises(ValueError, match=message):
            TemporalProductQuantization(3, 2, 8).build(shape)
    with pytest.raises(ValueError, match=r"or \[batch, embedding_dim\]. Received: \(2, 3, 4, 5\)"):
        TemporalProductQuantization(3, 2, 8).build((2, 3, 4, 5))
