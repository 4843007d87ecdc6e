"""Laws of product quantization as a layer, against the loops over the paper's formulas."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, few_examples, gradients, kept_dtype, to_numpy
from tfpqn.layers import ProductQuantization
from tfpqn.layers.subspace_quantizer import SETTLING_ROUNDS


def build(num_subspaces, num_codewords, embedding_dim, **options):
    layer = ProductQuantization(num_subspaces, num_codewords, **options)
    layer.build((None, embedding_dim))
    return layer


def build_from(codebooks, **options):
    num_subspaces, num_codewords, subvector_dim = np.shape(codebooks)
    layer = build(num_subspaces, num_codewords, num_subspaces * subvector_dim, **options)
    layer.codebooks.assign(np.array(codebooks, "float32"))
    return layer


@few_examples
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 9), st.integers(1, 4)),
    st.floats(0.5, 20.0),
    st.integers(0, 2**32 - 1),
)
def test_soft_and_hard_quantization_match_the_loops(sizes, alpha, seed):
    batch, num_subspaces, num_codewords, subvector_dim = sizes
    rng = np.random.default_rng(seed)
    codebooks = rng.normal(size=(num_subspaces, num_codewords, subvector_dim)).astype("float32")
    embeddings = rng.normal(size=(batch, num_subspaces * subvector_dim)).astype("float32")
    layer = build_from(codebooks, alpha=alpha)
    soft = layer(embeddings, training=True)
    assert_close(soft, reference.reconstruct_soft(embeddings, codebooks, alpha))
    tables = reference.lookup_tables(embeddings, codebooks)
    assert_close(layer.lookup_tables(embeddings), tables)
    # Codewords that are equally near, up to rounding, may be chosen either way.
    codes = to_numpy(layer.encode(embeddings))
    chosen = np.take_along_axis(tables, codes[..., None].astype(int), axis=-1)[..., 0]
    assert_close(chosen, tables.max(axis=-1), 1e-6)
    assert_close(layer.decode(codes), reference.decode(codes, codebooks), 1e-6)


def test_codes_match_the_loop(rng):
    layer = build(4, 16, 20)
    embeddings = rng.normal(size=(50, 20)).astype("float32")
    codes = reference.encode(embeddings, to_numpy(layer.codebooks))
    np.testing.assert_array_equal(to_numpy(layer.encode(embeddings)), codes)


def test_scores_rank_a_collection_as_the_loop_does(rng):
    layer = build(4, 16, 20)
    items = rng.normal(size=(40, 20)).astype("float32")
    queries = rng.normal(size=(5, 20)).astype("float32")
    codebooks = to_numpy(layer.codebooks)
    tables = reference.lookup_tables(queries, codebooks)
    expected = reference.adc_scores(tables, reference.encode(items, codebooks))
    found = reference.adc_scores(
        to_numpy(layer.lookup_tables(queries)), to_numpy(layer.encode(items))
    )
    np.testing.assert_array_equal(reference.search(found, 10), reference.search(expected, 10))


@pytest.mark.parametrize("num_codewords", [2, 256, 257])
def test_own_decodings_encode_to_themselves(rng, num_codewords):
    layer = build(3, num_codewords, 24)
    codes = rng.integers(0, num_codewords, size=(30, 3))
    codes[0] = num_codewords - 1
    again = to_numpy(layer.encode(layer.decode(codes)))
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [(256, "uint8"), (257, "uint16"), (4096, "uint16"), (65536, "uint16"), (65537, "int32")],
)
def test_the_last_of_many_codewords_survives_its_dtype(num_codewords, dtype):
    layer = build(2, num_codewords, 4)
    assert layer.code_dtype == dtype
    last = np.full((1, 2), num_codewords - 1)
    codebooks = -np.abs(to_numpy(layer.codebooks))
    codebooks[:, -1] = 1.0  # alone in the positive quadrant
    layer.codebooks.assign(codebooks)
    codes = layer.encode(np.ones((1, 4), "float32"))
    assert keras.backend.standardize_dtype(codes.dtype) == kept_dtype(dtype)
    np.testing.assert_array_equal(to_numpy(codes), last)
    assert_close(layer.decode(codes), np.full((1, 4), 0.5**0.5))


def test_large_alpha_is_hard_quantization(rng):
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    gaps = []
    for alpha in (1.0, 10.0, 1e5):
        keras.utils.set_random_seed(0)
        layer = build(3, 8, 12, alpha=alpha)
        gap = to_numpy(layer(embeddings, training=True)) - to_numpy(layer(embeddings))
        gaps.append(np.abs(gap).max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-5


def test_reconstructions_are_no_longer_than_one_in_each_subspace(rng):
    layer = build(3, 8, 12)
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    soft, hard = (to_numpy(layer(embeddings, training=training)) for training in (True, False))
    assert (np.linalg.norm(soft.reshape(20, 3, 4), axis=-1) < 1.0).all()
    assert_close(np.linalg.norm(hard.reshape(20, 3, 4), axis=-1), np.ones((20, 3)))


def test_the_length_of_codewords_does_not_matter(rng):
    layer = build(2, 8, 8)
    embeddings = rng.normal(size=(20, 8)).astype("float32")
    soft, hard = layer(embeddings, training=True), layer(embeddings)
    layer.codebooks.assign(to_numpy(layer.codebooks) * rng.uniform(0.1, 9.0, size=(2, 8, 1)))
    assert_close(layer(embeddings, training=True), soft)
    assert_close(layer(embeddings), hard)


def test_the_gradient_by_the_codebooks_matches_finite_differences(rng):
    embeddings = rng.normal(size=(3, 4)).astype("float32")
    codebooks = rng.normal(size=(2, 3, 2)).astype("float32")
    weights = rng.normal(size=(3, 4)).astype("float32")
    layer = build_from(codebooks, alpha=2.0)

    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(ops.multiply(weights, outputs))

    def loop(embeddings, codebooks):
        return np.sum(weights * reference.reconstruct_soft(embeddings, codebooks, 2.0))

    arrays = (embeddings, codebooks)
    for argument, found in enumerate(gradients(total, *arrays)):
        for position in np.ndindex(found.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.astype("float64") for array in arrays]
                moved[argument][position] += step
                ends.append(loop(*moved))
            assert found[position] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


def test_a_zero_subvector_takes_the_first_codeword_and_leaves_the_others_alone(rng):
    layer = build(3, 8, 12)
    embeddings = rng.normal(size=(6, 12)).astype("float32")
    with_zeros = embeddings.copy()
    with_zeros[:, 4:8] = 0.0
    codes, expected = (to_numpy(layer.encode(x)) for x in (with_zeros, embeddings))
    np.testing.assert_array_equal(codes[:, 1], 0)
    np.testing.assert_array_equal(codes[:, [0, 2]], expected[:, [0, 2]])
    (gradient,) = gradients(lambda x: ops.sum(layer(x, training=True)), with_zeros)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 4:8], 0.0)
    assert np.abs(gradient[:, :4]).max() > 0


def test_48_bits_at_4_subspaces(rng):
    layer = build(4, 4096, 16)
    assert layer.bits_per_code == 48
    embeddings = rng.normal(size=(3, 16)).astype("float32")
    codes = layer.encode(embeddings)
    assert keras.backend.standardize_dtype(codes.dtype) == kept_dtype("uint16")
    tables = to_numpy(layer.lookup_tables(embeddings))
    np.testing.assert_array_equal(to_numpy(codes), tables.argmax(axis=-1))


def test_a_call_in_mixed_precision_chooses_the_codeword_that_encoding_chooses():
    layer = build_from([[[1.0, 0.0], [0.0, 1.0]]], dtype="mixed_float16")
    embeddings = np.array([[1.0, 1.0 + 2.0**-13]], "float32")  # float16 makes it a tie
    codes = layer.encode(embeddings)
    np.testing.assert_array_equal(to_numpy(codes), [[1]])
    np.testing.assert_array_equal(to_numpy(layer(embeddings)), to_numpy(layer.decode(codes)))


def test_the_configuration_holds_every_argument():
    layer = ProductQuantization(
        3, 8, alpha=2.5, codebooks_initializer="glorot_uniform", name="codes", trainable=False
    )
    config = layer.get_config()
    assert (config["num_subspaces"], config["num_codewords"], config["alpha"]) == (3, 8, 2.5)
    again = ProductQuantization.from_config(config)
    assert isinstance(again.codebooks_initializer, keras.initializers.GlorotUniform)
    assert (again.name, again.trainable) == ("codes", False)


def test_the_codebooks_start_from_the_given_initializer():
    layer = build(2, 3, 4, codebooks_initializer=keras.initializers.Constant(2.0))
    np.testing.assert_array_equal(to_numpy(layer.codebooks), np.full((2, 3, 2), 2.0))


def test_the_fingerprint_is_the_same_everywhere_and_for_ever():
    """Indices on disk carry it: another digest for the same codebooks would refuse them all."""
    layer = build_from(np.arange(24).reshape(2, 3, 4))
    digest = "8ffe57198379e62041c45db7d8ebc8b2f981227254c001460438363b6db64b71"
    assert layer.codebook_fingerprint() == digest


def test_the_fingerprint_tells_layouts_of_the_same_numbers_apart():
    numbers = np.arange(1.0, 25.0)
    shapes = ((2, 3, 4), (3, 2, 4), (2, 4, 3), (1, 6, 4))
    prints = {build_from(numbers.reshape(shape)).codebook_fingerprint() for shape in shapes}
    assert len(prints) == len(shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_subspaces": 0}, "num_subspaces must be an integer of at least 1.*num_subspaces=0"),
        ({"num_subspaces": 2.0}, "num_subspaces must be an integer .*num_subspaces=2.0"),
        ({"num_codewords": 1}, "num_codewords must be an integer of at least 2.*num_codewords=1"),
        ({"num_codewords": "16"}, "num_codewords must be an integer .*num_codewords=16"),
        ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
        ({"alpha": -1.0}, "alpha must be positive and finite. Received: alpha=-1.0"),
        ({"alpha": float("nan")}, "alpha must be positive and finite. Received: alpha=nan"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProductQuantization(**options)


def test_a_length_that_does_not_divide_is_refused():
    message = "embedding_dim=10, num_subspaces=4"
    with pytest.raises(ValueError, match=message):
        build(4, 8, 10)
    with pytest.raises(ValueError, match=message):
        ProductQuantization(4, 8).encode(np.zeros((2, 10), "float32"))
    with pytest.raises(ValueError, match=message):
        ProductQuantization(4, 8)(np.zeros((2, 10), "float32"))
    with pytest.raises(ValueError, match=message):
        keras.Sequential([keras.Input((10,)), ProductQuantization(4, 8)])


def test_fitting_clusters_the_unit_subvectors_of_each_subspace(rng):
    layer = build(2, 3, 8)
    embeddings = rng.normal(size=(10, 8)).astype("float32")
    seen = []

    def cluster(vectors, num_clusters):
        seen.append((vectors, num_clusters))
        return 5.0 * vectors[:num_clusters]

    layer.fit_codebooks(embeddings, cluster)
    subvectors = reference.unit(reference.split(embeddings, 2))
    assert [num_clusters for _, num_clusters in seen] == [3, 3]
    for m in range(2):
        assert_close(seen[m][0], subvectors[:, m], 1e-6)
    assert_close(layer.codebooks, np.moveaxis(subvectors[:3], 0, 1), 1e-6)
    np.testing.assert_array_equal(
        to_numpy(layer.encode(embeddings[:3])), np.arange(3)[:, None].repeat(2, axis=1)
    )


def test_fitting_with_fewer_centres_than_codewords_keeps_the_other_directions(rng):
    layer = build(2, 5, 8)
    before = reference.unit(to_numpy(layer.codebooks))
    layer.fit_codebooks(rng.normal(size=(2, 8)).astype("float32"), lambda vectors, _: vectors)
    assert_close(to_numpy(layer.codebooks)[:, 2:], before[:, 2:], 1e-6)
    assert not np.allclose(to_numpy(layer.codebooks)[:, :2], before[:, :2])


def test_fitting_builds_the_layer(rng):
    layer = ProductQuantization(2, 3)
    layer.fit_codebooks(rng.normal(size=(5, 8)).astype("float32"), lambda vectors, k: vectors[:k])
    assert layer.embedding_dim == 8


def test_fitting_leaves_every_codeword_a_direction():
    """Opposite vectors have their mean at zero, and a zero codeword has no gradient for ever."""
    layer = build(1, 2, 2)
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    layer.fit_codebooks(embeddings, lambda vectors, _: vectors.mean(axis=0, keepdims=True))
    assert (np.linalg.norm(to_numpy(layer.codebooks), axis=-1) > 0.5).all()


def test_dead_codewords_are_used_after_their_revival(rng):
    layer = build(2, 8, 4, codebooks_initializer="ones")  # all alike: only the first is chosen
    embeddings = rng.normal(size=(200, 4)).astype("float32")
    first = to_numpy(layer.unit_codebooks())[:, 0].copy()
    assert layer.revive_codewords(embeddings, rng) == 14
    codes = to_numpy(layer.encode(embeddings))
    for m in range(2):
        assert set(codes[:, m]) == set(range(8))
    codebooks = to_numpy(layer.codebooks)
    assert_close(reference.unit(codebooks)[:, 0], first, 1e-6)
    # Each of the others stands on one of the data's own unit subvectors.
    subvectors = reference.unit(reference.split(embeddings, 2))
    similarities = np.einsum("bmd,mkd->mkb", subvectors, codebooks[:, 1:])
    assert_close(similarities.max(axis=-1), np.ones((2, 7)))


def test_revival_leaves_living_codewords_where_they_are(rng):
    layer = build(1, 4, 2)
    layer.codebooks.assign(np.array([[[2, 0], [0, 3], [-1, -1], [0, 0.5]]], "float32"))
    embeddings = np.array([[1, 0.1], [0.1, 1], [0.2, 1]], "float32")
    before = to_numpy(layer.codebooks).copy()
    alive = np.unique(to_numpy(layer.encode(embeddings)))
    assert layer.revive_codewords(embeddings, rng) == 2
    np.testing.assert_array_equal(to_numpy(layer.codebooks)[:, alive], before[:, alive])


def test_fewer_embeddings_than_dead_codewords_revive_as_many_as_they_are(rng):
    layer = build(2, 8, 4, codebooks_initializer="ones")
    embeddings = rng.normal(size=(3, 4)).astype("float32")
    assert layer.revive_codewords(embeddings, rng) == 6
    gap = to_numpy(layer.normalize(embeddings)) - to_numpy(layer(embeddings))
    assert np.abs(gap).max() < 1e-6


def test_revival_is_over_when_every_embedding_has_its_own_codeword(rng):
    layer = build(2, 8, 8, codebooks_initializer="ones")
    embeddings = rng.normal(size=(5, 8)).astype("float32")
    layer.revive_codewords(embeddings, rng)
    codes = to_numpy(layer.encode(embeddings))
    for _ in range(3):
        assert layer.revive_codewords(embeddings, rng) == 0
        np.testing.assert_array_equal(to_numpy(layer.encode(embeddings)), codes)


def test_revival_does_not_move_codewords_onto_zero(rng):
    layer = build(1, 4, 2, codebooks_initializer="ones")
    embeddings = np.zeros((20, 2), "float32")
    embeddings[0] = (1.0, -1.0)
    layer.revive_codewords(embeddings, rng)
    assert (np.linalg.norm(to_numpy(layer.codebooks), axis=-1) > 0.5).all()


def test_reviving_nothing_from_no_embeddings(rng):
    layer = build(2, 4, 4)
    codebooks = to_numpy(layer.codebooks).copy()
    assert layer.revive_codewords(np.zeros((0, 4), "float32"), rng) == 0
    np.testing.assert_array_equal(to_numpy(layer.codebooks), codebooks)


def test_codes_decode_to_codewords_of_their_own_length_where_it_is_kept(rng):
    codebooks = rng.normal(size=(3, 8, 4)).astype("float32")
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    unit, own = (build_from(codebooks, unit_codewords=wanted) for wanted in (True, False))
    codes = to_numpy(own.encode(embeddings))
    nearest = reference.encode(embeddings, codebooks, unit_codewords=False)
    np.testing.assert_array_equal(codes, nearest)
    # Directions alone decide what training reconstructs.
    assert_close(own(embeddings, training=True), unit(embeddings, training=True))
    assert (codes != to_numpy(unit.encode(embeddings))).any()
    decoded = np.stack([np.concatenate([codebooks[m, k] for m, k in enumerate(c)]) for c in codes])
    assert_close(own.decode(codes), decoded)
    lengths = np.linalg.norm(codebooks, axis=-1)
    assert_close(own.lookup_tables(embeddings), to_numpy(unit.lookup_tables(embeddings)) * lengths)
    assert own.codebook_fingerprint() != unit.codebook_fingerprint()


def test_codewords_of_their_own_length_are_fitted_with_that_of_the_centres(rng):
    layer = build(2, 3, 8, unit_codewords=False)
    embeddings = rng.normal(size=(10, 8)).astype("float32")
    layer.fit_codebooks(embeddings, lambda vectors, num_clusters: 0.3 * vectors[:num_clusters])
    assert_close(np.linalg.norm(to_numpy(layer.codebooks), axis=-1), np.full((2, 3), 0.3))


def no_cluster(vectors, num_clusters):
    raise AssertionError("one level needs no clustering to settle")


def test_settling_takes_means_of_soft_reconstructions_and_chooses_anew_by_turns(rng):
    codebooks = rng.normal(size=(2, 40, 3)).astype("float32")
    layer = build_from(codebooks, alpha=3.0, unit_codewords=False)
    embeddings = rng.normal(size=(60, 6)).astype("float32")
    soft = reference.split(reference.reconstruct_soft(embeddings, codebooks, 3.0), 2)
    expected = reference.unit(codebooks)
    for _ in range(SETTLING_ROUNDS):
        codes = reference.encode(embeddings, expected, unit_codewords=False)
        for m, k in np.ndindex(2, 40):
            if k in codes[:, m]:
                expected[m, k] = np.mean(soft[codes[:, m] == k, m], axis=0)
    assert len(set(codes[:, 0])) < 40  # some stay as they are
    layer.settle_codebooks(embeddings, no_cluster)
    assert_close(layer.codebooks, expected)


def test_settling_many_embeddings_is_settling_them_all(rng, monkeypatch):
    embeddings = rng.normal(size=(50, 6)).astype("float32")
    codebooks = rng.normal(size=(2, 4, 3)).astype("float32")
    layers = [build_from(codebooks, unit_codewords=False) for _ in range(2)]
    layers[0].settle_codebooks(embeddings, no_cluster)
    monkeypatch.setattr("tfpqn.layers.subspace_quantizer.ROWS_AT_ONCE", 7)
    layers[1].settle_codebooks(embeddings, no_cluster)
    assert_close(layers[1].codebooks, layers[0].codebooks)


def test_a_codeword_whose_reconstructions_cancel_out_keeps_its_direction():
    codebooks = np.array([[[1, 0], [-1, 0]]], "float32")
    layer = build_from(codebooks, alpha=1e-6, unit_codewords=False)  # all assignments are equal
    layer.settle_codebooks(np.array([[1, 0], [-1, 0]], "float32"), no_cluster)
    assert_close(layer.codebooks, codebooks)


def test_unit_codewords_cannot_be_settled(rng):
    with pytest.raises(ValueError, match="unit_codewords=False. Received: unit_codewords=True"):
        build(2, 3, 8).settle_codebooks(rng.normal(size=(5, 8)), no_cluster)
