"""Laws of residual product quantization as a layer, against loops over levels and residuals."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, few_examples, gradients, kept_dtype, to_numpy
from tfpqn.layers import ProductQuantization, ResidualProductQuantization

HARD_VALUES = ("none", "residuals", "all")


def build(num_levels, num_subspaces, num_codewords, embedding_dim, **options):
    layer = ResidualProductQuantization(num_levels, num_subspaces, num_codewords, **options)
    layer.build((None, embedding_dim))
    return layer


def build_from(codebooks, **options):
    num_levels, num_subspaces, num_codewords, subvector_dim = np.shape(codebooks)
    layer = build(
        num_levels, num_subspaces, num_codewords, num_subspaces * subvector_dim, **options
    )
    layer.codebooks.assign(np.array(codebooks, "float32"))
    return layer


def draw_codebooks(rng, *shape):
    """Of any length, and smaller from level to level."""
    scales = 0.6 ** np.arange(shape[0])[:, None, None, None]
    return (rng.normal(size=shape) * scales).astype("float32")


def assert_same(first, second):
    np.testing.assert_array_equal(to_numpy(first), to_numpy(second))


@few_examples
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 7), st.integers(1, 4)),
    st.floats(0.5, 8.0),
    st.sampled_from(HARD_VALUES),
    st.integers(0, 2**32 - 1),
)
def test_soft_and_hard_quantization_match_the_loops(sizes, alpha, straight_through, seed):
    rng = np.random.default_rng(seed)
    codebooks = draw_codebooks(rng, *sizes)
    embeddings = rng.normal(size=(3, sizes[1] * sizes[3])).astype("float32")
    layer = build_from(codebooks, alpha=alpha, straight_through=straight_through)
    # Codewords that are equally near, up to rounding, may be chosen either way.
    codes = to_numpy(layer.encode(embeddings))
    assert reference.residual_detours(embeddings, codebooks, codes).max() < 1e-5
    assert_close(layer.decode(codes), reference.residual_decode(codes, codebooks))
    tables = reference.residual_lookup_tables(embeddings, codebooks)
    assert_close(layer.lookup_tables(embeddings), tables)
    for training, hard_values in ((False, "all"), (True, straight_through)):
        expected = reference.residual_partial_sums(
            embeddings, codebooks, codes, layer.alphas, hard_values
        )
        found = layer.quantize_embeddings(embeddings, training=training)
        assert_close(found.partial_sums, expected, 1e-4)
        assert_same(found.reconstruction, to_numpy(found.partial_sums)[:, -1])
        assert_same(layer(embeddings, training=training), found.reconstruction)


def test_codes_match_the_loop(rng):
    layer = build(3, 2, 16, 12)
    embeddings = rng.normal(size=(50, 12)).astype("float32")
    codes = reference.residual_encode(embeddings, to_numpy(layer.codebooks))
    assert_same(layer.encode(embeddings), codes)


def test_scores_rank_a_collection_as_the_loop_does(rng):
    layer = build(2, 2, 8, 12)
    items = rng.normal(size=(40, 12)).astype("float32")
    queries = rng.normal(size=(5, 12)).astype("float32")
    codebooks = to_numpy(layer.codebooks)
    tables = reference.residual_lookup_tables(queries, codebooks)
    expected = reference.adc_scores(tables, reference.residual_encode(items, codebooks))
    found = reference.adc_scores(
        to_numpy(layer.lookup_tables(queries)), to_numpy(layer.encode(items))
    )
    assert_same(reference.search(found, 10), reference.search(expected, 10))


@pytest.mark.parametrize("straight_through", [None, "none"])
def test_one_level_is_product_quantization_to_the_last_bit(rng, straight_through):
    codebooks = draw_codebooks(rng, 1, 3, 8, 4)
    layer = build_from(codebooks, alpha=3.0, straight_through=straight_through)
    product = ProductQuantization(3, 8, alpha=3.0)
    product.build((None, 12))
    product.codebooks.assign(codebooks[0])
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    for training in (False, True):
        first, second = (
            quantizer.quantize_embeddings(embeddings, training) for quantizer in (layer, product)
        )
        for each, other in zip(first, second, strict=True):
            assert_same(each, other)
    assert_same(layer.lookup_tables(embeddings), product.lookup_tables(embeddings))
    codes = to_numpy(product.encode(embeddings))
    assert_same(layer.decode(codes), product.decode(codes))


def test_only_the_first_level_forgets_the_length_of_its_codewords(rng):
    layer = build(2, 2, 8, 8)
    embeddings = rng.normal(size=(20, 8)).astype("float32")
    outputs = to_numpy(layer(embeddings))
    codebooks = to_numpy(layer.codebooks).copy()
    codebooks[0] *= rng.uniform(0.1, 9.0, size=(2, 8, 1))
    layer.codebooks.assign(codebooks)
    assert_close(layer(embeddings), outputs)
    codebooks[1] *= 3.0
    layer.codebooks.assign(codebooks)
    assert np.abs(to_numpy(layer(embeddings)) - outputs).max() > 0.1


def test_residuals_keep_their_length():
    """The same residual direction, near and far from the codeword, has different second codes."""
    layer = build_from([[[[1.0, 0.0], [-1.0, 0.0]]], [[[0.0, 0.2], [0.0, 0.9]]]])
    embeddings = np.array([[np.cos(angle), np.sin(angle)] for angle in (0.2, 1.2)], "float32")
    assert_same(layer.encode(embeddings), [[0, 0], [0, 1]])


@pytest.mark.parametrize("straight_through", HARD_VALUES)
def test_partial_sums_are_what_the_prefixes_reconstruct(rng, straight_through):
    codebooks = draw_codebooks(rng, 3, 2, 8, 4)
    layer = build_from(codebooks, alpha=(4.0, 9.0, 25.0), straight_through=straight_through)
    embeddings = rng.normal(size=(12, 8)).astype("float32")
    codes, tables = to_numpy(layer.encode(embeddings)), to_numpy(layer.lookup_tables(embeddings))
    for num_levels in (1, 2, 3):
        shorter = layer.prefix(num_levels)
        length = 2 * num_levels
        assert (shorter.num_levels, shorter.code_length) == (num_levels, length)
        assert shorter.alphas == [4.0, 9.0, 25.0][:num_levels]
        assert_same(shorter.encode(embeddings), codes[:, :length])
        assert_same(shorter.lookup_tables(embeddings), tables[:, :length])
        decoded = reference.residual_decode(codes[:, :length], codebooks[:num_levels])
        assert_close(shorter.decode(codes[:, :length]), decoded)
        for training in (False, True):
            sums = layer.quantize_embeddings(embeddings, training=training).partial_sums
            assert_same(shorter(embeddings, training=training), to_numpy(sums)[:, num_levels - 1])


@pytest.mark.parametrize("num_levels", [1, 2])
def test_a_prefix_trains_on_as_the_first_levels_did(rng, num_levels):
    """Also where the layer chose by itself what training takes hard."""
    layer = build(2, 2, 8, 8)
    embeddings = rng.normal(size=(12, 8)).astype("float32")
    sums = to_numpy(layer.quantize_embeddings(embeddings, training=True).partial_sums)
    shorter = layer.prefix(num_levels)
    assert_same(shorter(embeddings, training=True), sums[:, num_levels - 1])
    assert_same(shorter.prefix(1)(embeddings, training=True), sums[:, 0])


def test_a_prefix_is_a_copy_with_a_fingerprint_of_its_own(rng):
    layer = build(3, 2, 8, 8)
    prints = {layer.prefix(number).codebook_fingerprint() for number in (1, 2, 3)}
    assert len(prints) == 3
    assert layer.codebook_fingerprint() in prints
    before = to_numpy(layer.codebooks).copy()
    shorter = layer.prefix(3)
    shorter.codebooks.assign(np.zeros(before.shape))
    assert_same(layer.codebooks, before)


def test_a_prefix_of_levels_that_are_not_there_is_refused():
    layer = build(2, 2, 8, 8)
    for number in (0, 3, -1, 1.0, None):
        with pytest.raises(ValueError, match=rf"in 1 .. 2, .*Received: num_levels={number}"):
            layer.prefix(number)
    with pytest.raises(RuntimeError, match="prefix needs the codebooks"):
        ResidualProductQuantization(2, 2, 8).prefix(1)


def separated_codebooks(scales):
    """Each level has two axes of its own, forth and back: no level can mend another's choice."""
    axes = np.eye(2 * len(scales))
    return [
        [np.concatenate([scale * axes[2 * t : 2 * t + 2], -scale * axes[2 * t : 2 * t + 2]])] * 2
        for t, scale in enumerate(scales)
    ]


def test_own_decodings_encode_to_themselves_when_levels_shrink_fast():
    layer = build_from(separated_codebooks((1.0, 0.1, 0.02)))
    codes = np.array(list(np.ndindex(4, 4, 4)))
    codes = np.stack([codes, codes[::-1]], axis=2).reshape(64, 6)
    assert_same(layer.encode(layer.decode(codes)), codes)


def test_with_a_zero_codeword_in_each_later_level_the_error_never_grows(rng):
    codebooks = draw_codebooks(rng, 4, 2, 8, 3)
    codebooks[1:, :, 5] = 0.0
    layer = build_from(codebooks)
    embeddings = rng.normal(size=(30, 6)).astype("float32")
    sums = to_numpy(layer.quantize_embeddings(embeddings).partial_sums)
    gaps = sums - to_numpy(layer.normalize(embeddings))[:, None]
    errors = np.square(gaps.reshape(30, 4, 2, 3)).sum(axis=-1)
    assert (np.diff(errors, axis=1) <= 1e-5).all()
    assert errors[:, 3].mean() < 0.5 * errors[:, 0].mean()


def test_the_codebooks_start_shorter_from_level_to_level():
    layer = build(3, 2, 4, 8, codebooks_initializer="ones")
    lengths = np.linalg.norm(to_numpy(layer.codebooks), axis=-1)
    assert_close(lengths, np.array([1.0, 0.5, 0.25])[:, None, None] * np.ones((3, 2, 4)))


def test_one_alpha_grows_by_four_from_level_to_level():
    layer = ResidualProductQuantization(3, 2, 8, alpha=1.5)
    assert layer.alphas == [1.5, 6.0, 24.0]
    assert ResidualProductQuantization(1, 2, 8, alpha=3).alphas == [3.0]


@pytest.mark.parametrize("alpha", [[3.0, 2.0, 7.0], (3, 2, 7)])
def test_several_alphas_are_taken_as_they_are(alpha):
    layer = ResidualProductQuantization(3, 2, 8, alpha=alpha)
    assert layer.alphas == [3.0, 2.0, 7.0]
    assert ResidualProductQuantization.from_config(layer.get_config()).alphas == layer.alphas


def test_large_alpha_is_hard_quantization(rng):
    codebooks = draw_codebooks(rng, 2, 3, 8, 4)
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    gaps = []
    for alpha in (1.0, 10.0, 1e5):
        layer = build_from(codebooks, alpha=alpha, straight_through="none")
        gap = to_numpy(layer(embeddings, training=True)) - to_numpy(layer(embeddings))
        gaps.append(np.abs(gap).max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-5


def test_all_taken_hard_training_sees_what_will_be_encoded(rng):
    embeddings = rng.normal(size=(20, 8)).astype("float32")
    for options in ({"straight_through": "all"}, {}):
        layer = build(3, 2, 8, 8, **options)
        assert_same(layer(embeddings, training=True), layer(embeddings))


@pytest.mark.parametrize("straight_through", ["residuals", "all"])
def test_codes_in_training_are_those_of_inference(rng, straight_through):
    layer = build(3, 2, 8, 8, straight_through=straight_through)
    embeddings = rng.normal(size=(20, 8)).astype("float32")
    found = layer.quantize_embeddings(embeddings, training=True)
    assert_same(found.codes, layer.encode(embeddings))


def gradients_of(layer, embeddings, codebooks, weights):
    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(ops.multiply(weights, outputs))

    return gradients(total, embeddings, codebooks)


def test_the_gradient_matches_finite_differences_when_all_is_soft(rng):
    embeddings = rng.normal(size=(2, 4)).astype("float32")
    codebooks = draw_codebooks(rng, 2, 2, 3, 2)
    weights = rng.normal(size=(2, 4)).astype("float32")
    layer = build_from(codebooks, alpha=(2.0, 3.0), straight_through="none")
    codes = np.zeros((2, 4), int)

    def loop(embeddings, codebooks):
        sums = reference.residual_partial_sums(embeddings, codebooks, codes, (2.0, 3.0), "none")
        return np.sum(weights * sums[:, -1])

    arrays = (embeddings, codebooks)
    for argument, found in enumerate(gradients_of(layer, embeddings, codebooks, weights)):
        for position in np.ndindex(found.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.astype("float64") for array in arrays]
                moved[argument][position] += step
                ends.append(loop(*moved))
            assert found[position] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


def test_the_gradient_of_one_level_is_soft_whatever_is_taken_hard(rng):
    embeddings = rng.normal(size=(3, 8)).astype("float32")
    codebooks = draw_codebooks(rng, 1, 2, 4, 4)
    weights = rng.normal(size=(3, 8)).astype("float32")
    soft, *others = (
        gradients_of(build_from(codebooks, straight_through=x), embeddings, codebooks, weights)
        for x in HARD_VALUES
    )
    for other in others:
        for expected, found in zip(soft, other, strict=True):
            assert_close(found, expected)


@pytest.mark.parametrize("straight_through", ["residuals", "all"])
def test_what_is_taken_hard_passes_the_gradient_of_the_soft_step(rng, straight_through):
    """By hand for two levels: `s1(x) + s2(x - s1(x))`, the second at the hard residual."""
    embeddings = rng.normal(size=(3, 4)).astype("float32")
    codebooks = draw_codebooks(rng, 2, 1, 5, 4)
    weights = rng.normal(size=(3, 4)).astype("float32")
    layer = build_from(codebooks, alpha=(2.0, 3.0), straight_through=straight_through)
    by_embeddings, _ = gradients_of(layer, embeddings, codebooks, weights)
    first, second = reference.unit_first(codebooks)
    units = reference.unit(embeddings)
    codes = to_numpy(layer.encode(embeddings))

    def slope_of(residual, codebook, alpha):
        """The soft step's derivative by the residual: `2 alpha Cov(c)`, a symmetric matrix."""
        chances = reference.assign_soft(residual, codebook, alpha)
        mean = chances @ codebook
        return 2 * alpha * ((codebook.T * chances) @ codebook - np.outer(mean, mean))

    for row, (unit, code) in enumerate(zip(units, codes, strict=True)):
        slope = slope_of(unit, first[0], 2.0)
        residual = unit - first[0][code[0]]
        later = slope_of(residual, second[0], 3.0)
        by_unit = (slope + later @ (np.eye(4) - slope)).T @ weights[row]
        expected = (by_unit - unit * (unit @ by_unit)) / np.linalg.norm(embeddings[row])
        assert_close(by_embeddings[row], expected, 1e-4)


@pytest.mark.parametrize("straight_through", HARD_VALUES)
@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_gradients_stay_finite_at_the_edges(rng, straight_through, alpha):
    embeddings = rng.normal(size=(4, 8)).astype("float32")
    embeddings[0] = 0.0
    embeddings[1, :4] = 0.0
    codebooks = draw_codebooks(rng, 3, 2, 4, 4)
    codebooks[:, :, 1] = codebooks[:, :, 0]
    codebooks[:, 1, 2] = 0.0
    codebooks[2] = 0.0
    layer = build_from(codebooks, alpha=alpha, straight_through=straight_through)
    weights = rng.normal(size=(4, 8)).astype("float32")
    for training in (False, True):
        assert np.isfinite(to_numpy(layer(embeddings, training=training))).all()
    by_embeddings, by_codebooks = gradients_of(layer, embeddings, codebooks, weights)
    assert np.isfinite(by_embeddings).all()
    assert np.isfinite(by_codebooks).all()
    assert_same(by_embeddings[0], np.zeros(8))
    assert_same(by_embeddings[1, :4], np.zeros(4))


def test_a_zero_subvector_is_coded_for_itself(rng):
    layer = build(2, 3, 8, 12)
    embeddings = rng.normal(size=(6, 12)).astype("float32")
    with_zeros = embeddings.copy()
    with_zeros[:, 4:8] = 0.0
    codes, expected = (to_numpy(layer.encode(x)) for x in (with_zeros, embeddings))
    # Of codewords that are equally near, the first.
    assert_same(codes[:, 1], np.zeros(6))
    assert_same(codes[:, [0, 2, 3, 5]], expected[:, [0, 2, 3, 5]])


def test_fitting_goes_level_by_level_over_what_hard_codewords_leave(rng):
    layer = build(2, 2, 3, 8)
    embeddings = rng.normal(size=(10, 8)).astype("float32")
    seen = []

    def cluster(vectors, num_clusters):
        seen.append((vectors.copy(), num_clusters))
        return 0.5 * vectors[:num_clusters]

    layer.fit_codebooks(embeddings, cluster)
    assert [num_clusters for _, num_clusters in seen] == [3] * 4
    residuals = reference.unit(reference.split(embeddings, 2))
    expected = np.zeros((2, 2, 3, 4))
    for level in range(2):
        for m in range(2):
            assert_close(seen[2 * level + m][0], residuals[:, m])
            expected[level, m] = 0.5 * residuals[:3, m]
            words = reference.unit(expected[0, m]) if level == 0 else expected[level, m]
            for row in range(10):
                residuals[row, m] -= words[reference.assign_hard(residuals[row, m], words)]
    # Codewords of the first level are stored as they are used, those of the second as they came.
    expected[0] = reference.unit(expected[0])
    assert_close(layer.codebooks, expected)


def test_fitting_with_fewer_centres_than_codewords_keeps_the_others(rng):
    layer = build(2, 2, 5, 8)
    before = reference.unit_first(to_numpy(layer.codebooks))
    layer.fit_codebooks(rng.normal(size=(2, 8)).astype("float32"), lambda vectors, _: vectors)
    after = to_numpy(layer.codebooks)
    for level in range(2):
        assert_close(after[level, :, 2:], before[level][:, 2:])
        assert not np.allclose(after[level, :, :2], before[level][:, :2])


def test_a_centre_at_zero_is_taken_in_later_levels_only():
    """In the first level a zero codeword had no direction, and no gradient for ever."""
    layer = build(2, 1, 2, 2)
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    layer.fit_codebooks(embeddings, lambda vectors, _: np.zeros((2, 2), "float32"))
    lengths = np.linalg.norm(to_numpy(layer.codebooks), axis=-1)
    assert (lengths[0] > 0.5).all()
    assert_same(lengths[1], np.zeros((1, 2)))


def test_fitting_builds_the_layer(rng):
    layer = ResidualProductQuantization(2, 2, 3)
    layer.fit_codebooks(rng.normal(size=(5, 8)).astype("float32"), lambda vectors, k: vectors[:k])
    assert layer.embedding_dim == 8


def test_dead_codewords_of_every_level_are_used_after_their_revival(rng):
    layer = build(2, 2, 8, 6, codebooks_initializer="ones")  # all alike: only the first is chosen
    embeddings = rng.normal(size=(200, 6)).astype("float32")
    assert layer.revive_codewords(embeddings, rng) == 28
    codes = to_numpy(layer.encode(embeddings))
    for position in range(4):
        assert set(codes[:, position]) == set(range(8))
    # Each stands on what the data leaves at its level.
    codebooks = to_numpy(layer.codebooks)
    residuals = reference.unit(reference.split(embeddings, 2))
    for m in range(2):
        for level in reference.unit_first(codebooks):
            for word in level[m][1:]:
                assert reference.squared_distances(word, residuals[:, m]).min() < 1e-5
            for row in range(200):
                nearest = reference.assign_hard(residuals[row, m], level[m])
                residuals[row, m] -= level[m][nearest]
    assert layer.revive_codewords(embeddings, rng) <= 2


def test_revival_leaves_living_codewords_where_they_are(rng):
    codebooks = [[[[2.0, 0.0], [0.0, 3.0]]], [[[0.1, 0.1], [9.0, 9.0]]]]
    layer = build_from(codebooks)
    embeddings = np.array([[1.0, 0.2], [0.3, 1.0], [1.0, -0.1]], "float32")
    assert_same(np.unique(to_numpy(layer.encode(embeddings))[:, 1]), [0])
    assert layer.revive_codewords(embeddings, rng) == 1
    after = to_numpy(layer.codebooks)
    assert_same(after[0], np.array(codebooks[0], "float32"))
    assert_same(after[1, 0, 0], np.array([0.1, 0.1], "float32"))
    residuals = reference.unit(embeddings) - np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert reference.squared_distances(after[1, 0, 1], residuals).min() < 1e-10
    assert layer.revive_codewords(embeddings, rng) == 0
    assert_same(layer.codebooks, after)


def test_the_residuals_of_moved_codewords_revive_the_next_level():
    """The second level must not stand on residuals of codewords that have just moved away."""
    layer = build_from([[[[1.0, 0.0], [1.0, 0.0]]], [[[0.0, 0.0], [9.0, 9.0]]]])
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    # After the first level has moved, each embedding is a codeword: nothing is left to stand on.
    assert layer.revive_codewords(embeddings, np.random.default_rng(0)) == 1
    assert_close(layer(embeddings), embeddings, 1e-6)


def test_reviving_nothing_from_no_embeddings(rng):
    layer = build(2, 2, 4, 4)
    codebooks = to_numpy(layer.codebooks).copy()
    assert layer.revive_codewords(np.zeros((0, 4), "float32"), rng) == 0
    assert_same(layer.codebooks, codebooks)


def test_the_last_of_many_codewords_survives_its_dtype():
    layer = build(2, 1, 257, 2)
    codebooks = -np.abs(to_numpy(layer.codebooks))
    codebooks[:, :, -1] = [[[3.0, 4.0]], [[0.0, 0.0]]]
    layer.codebooks.assign(codebooks)
    codes = layer.encode(np.array([[6.0, 8.0]], "float32"))
    assert layer.code_dtype == "uint16"
    assert keras.backend.standardize_dtype(codes.dtype) == kept_dtype("uint16")
    assert_same(codes, [[256, 256]])
    assert_close(layer.decode(codes), [[0.6, 0.8]])


def test_the_configuration_holds_every_argument():
    layer = ResidualProductQuantization(
        3,
        2,
        8,
        alpha=[1.0, 2.0, 3.0],
        straight_through="residuals",
        codebooks_initializer="glorot_uniform",
        name="codes",
        trainable=False,
    )
    config = layer.get_config()
    for name, value in (
        ("num_levels", 3),
        ("num_subspaces", 2),
        ("num_codewords", 8),
        ("alpha", [1.0, 2.0, 3.0]),
        ("straight_through", "residuals"),
    ):
        assert config[name] == value
    again = ResidualProductQuantization.from_config(config)
    assert isinstance(again.codebooks_initializer, keras.initializers.GlorotUniform)
    assert (again.name, again.trainable) == ("codes", False)
    assert again.get_config() == config


def test_the_fingerprint_is_the_same_everywhere_and_for_ever():
    """Indices on disk carry it: another digest for the same codebooks would refuse them all."""
    layer = build_from(np.arange(48).reshape(2, 2, 3, 4))
    digest = "e46ffee69de5d8510696d37e5981cb56fd35f6fe55468619e7e31a46bcb433a1"
    assert layer.codebook_fingerprint() == digest


def test_the_fingerprint_tells_layouts_of_the_same_numbers_apart():
    numbers = np.arange(1.0, 25.0)
    shapes = ((1, 2, 3, 4), (2, 1, 3, 4), (3, 2, 2, 2), (2, 3, 2, 2))
    prints = {build_from(numbers.reshape(shape)).codebook_fingerprint() for shape in shapes}
    product = ProductQuantization(2, 3)
    product.build((None, 8))
    product.codebooks.assign(numbers.reshape(2, 3, 4))
    assert len(prints | {product.codebook_fingerprint()}) == len(shapes) + 1


def test_the_fingerprint_tells_apart_what_the_same_codebooks_stand_for(rng):
    codebooks = draw_codebooks(rng, 2, 2, 8, 4)
    settings = [
        {},
        {"residuals": "reconstructions"},
        {"residuals": "reconstructions", "unit_codewords": False},
    ]
    prints = {build_from(codebooks, **chosen).codebook_fingerprint() for chosen in settings}
    assert len(prints) == len(settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be an integer of at least 1.*num_levels=0"),
        ({"num_levels": 1.5}, "num_levels must be an integer .*num_levels=1.5"),
        ({"num_subspaces": 0}, "num_subspaces must be an integer of at least 1.*num_subspaces=0"),
        ({"num_codewords": 1}, "num_codewords must be an integer of at least 2.*num_codewords=1"),
        ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
        ({"alpha": [1.0, -1.0]}, "alpha must be positive and finite. Received: alpha=-1.0"),
        ({"alpha": float("inf")}, "alpha must be positive and finite. Received: alpha=inf"),
        ({"alpha": (1.0, float("nan"))}, "alpha must be positive and finite. .*alpha=nan"),
        ({"alpha": 1e308}, "alpha must be positive and finite. Received: alpha=inf"),
        ({"alpha": [1.0]}, r"one for each of 2 levels. Received: alpha=\[1.0\]"),
        ({"alpha": (1, 2, 3)}, r"one for each of 2 levels. Received: alpha=\[1, 2, 3\]"),
        ({"straight_through": "hard"}, r"None or one of \['none', .*Received: 'hard'"),
        ({"straight_through": True}, "None or one of .*Received: True"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualProductQuantization(**options)


def test_a_length_that_does_not_divide_is_refused():
    message = "embedding_dim=10, num_subspaces=4"
    with pytest.raises(ValueError, match=message):
        build(2, 4, 8, 10)
    with pytest.raises(ValueError, match=message):
        ResidualProductQuantization(2, 4, 8).encode(np.zeros((2, 10), "float32"))
    with pytest.raises(ValueError, match=message):
        keras.Sequential([keras.Input((10,)), ResidualProductQuantization(2, 4, 8)])


OWN_LENGTHS = {"residuals": "reconstructions", "unit_codewords": False}


def test_one_level_of_own_lengths_is_product_quantization_of_own_lengths(rng):
    codebooks = draw_codebooks(rng, 1, 2, 8, 4)
    embeddings = rng.normal(size=(20, 8)).astype("float32")
    product = ProductQuantization(2, 8, unit_codewords=False)
    product.build((None, 8))
    product.codebooks.assign(codebooks[0])
    for settings in ({"unit_codewords": False}, OWN_LENGTHS):
        layer = build_from(codebooks, **settings)
        assert_same(layer.encode(embeddings), product.encode(embeddings))
        for training in (False, True):
            assert_close(
                layer(embeddings, training=training), product(embeddings, training=training)
            )
        assert_close(layer.lookup_tables(embeddings), product.lookup_tables(embeddings))


@pytest.mark.parametrize(
    "settings",
    [{"num_levels": 2}, {"num_levels": 1, "straight_through": "all"}],
    ids=lambda settings: str(settings),
)
def test_own_lengths_are_for_training_on_soft_values(settings):
    with pytest.raises(ValueError, match="unit_codewords=False needs training on soft values"):
        ResidualProductQuantization(unit_codewords=False, **settings)


def first_vectors(vectors, num_clusters):
    return vectors[:num_clusters]


def test_settling_changes_the_first_level_as_that_of_a_product_quantizer(rng):
    codebooks = draw_codebooks(rng, 2, 2, 8, 4)
    embeddings = rng.normal(size=(50, 8)).astype("float32")
    layer = build_from(codebooks, alpha=3.0, **OWN_LENGTHS)
    product = ProductQuantization(2, 8, alpha=3.0, unit_codewords=False)
    product.build((None, 8))
    product.codebooks.assign(codebooks[0])
    for quantizer in (layer, product):
        quantizer.settle_codebooks(embeddings, first_vectors)
    assert_close(to_numpy(layer.codebooks)[0], product.codebooks)


def quantize_reconstructions(embeddings, codebooks, alpha, unit_codewords):
    """Codes, what they decode to, and the soft reconstruction they stand for, by loops."""
    first = reference.unit(codebooks[0]) if unit_codewords else codebooks[0]
    codes = [reference.encode(embeddings, first, unit_codewords=unit_codewords)]
    soft = reference.reconstruct_soft(embeddings, codebooks[0], alpha)
    targets = reference.split(soft, len(first))
    decoded = np.zeros_like(targets)
    for level, codebook in enumerate([first, *codebooks[1:]]):
        if level:
            chosen = np.zeros(targets.shape[:2], np.int64)
            for row, m in np.ndindex(chosen.shape):
                chosen[row, m] = reference.assign_hard((targets - decoded)[row, m], codebook[m])
            codes.append(chosen)
        for row, m in np.ndindex(targets.shape[:2]):
            decoded[row, m] += codebook[m][codes[level][row, m]]
    return np.concatenate(codes, axis=1), reference.merge(decoded), soft


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_levels_may_quantize_what_codes_leave_of_soft_reconstructions(rng, unit_codewords):
    codebooks = draw_codebooks(rng, 3, 2, 8, 4)
    embeddings = rng.normal(size=(30, 8)).astype("float32")
    layer = build_from(
        codebooks, alpha=3.0, residuals="reconstructions", unit_codewords=unit_codewords
    )
    codes, decoded, soft = quantize_reconstructions(embeddings, codebooks, 3.0, unit_codewords)
    assert_same(layer.encode(embeddings), codes)
    assert_close(layer(embeddings), decoded)
    training = layer.quantize_embeddings(embeddings, training=True)
    assert_close(training.reconstruction, soft)
    assert_same(training.codes, codes)
    for level in range(3):
        assert_close(training.partial_sums[:, level], soft)


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_settled_levels_are_the_centres_of_what_codes_leave(rng, unit_codewords):
    layer = build(3, 2, 8, 8, alpha=3.0, residuals="reconstructions", unit_codewords=unit_codewords)
    embeddings = rng.normal(size=(30, 8)).astype("float32")
    before = to_numpy(layer.codebooks).copy()
    seen = []

    def cluster(vectors, num_clusters):
        seen.append(vectors)
        return vectors[:num_clusters]

    layer.settle_codebooks(embeddings, cluster)
    after = to_numpy(layer.codebooks)
    lengths = np.linalg.norm(after[0], axis=-1)
    if unit_codewords:
        assert_same(after[0], before[0])
    else:
        assert lengths.max() < 1 + 1e-6
    _, decoded, soft = quantize_reconstructions(embeddings, after[:1], 3.0, unit_codewords)
    assert len(seen) == 4
    for m, vectors in enumerate(seen[:2]):
        assert_close(vectors, reference.split(soft - decoded, 2)[:, m])
    assert_close(after[1], np.moveaxis(reference.split(soft - decoded, 2)[:8], 0, 1))


def test_a_level_with_a_codeword_for_each_residual_leaves_nothing(rng):
    embeddings = rng.normal(size=(8, 8)).astype("float32")
    layer = build(2, 2, 8, 8, residuals="reconstructions", unit_codewords=False)
    layer.settle_codebooks(embeddings, first_vectors)
    assert_close(layer(embeddings), layer(embeddings, training=True))


def test_what_does_not_go_with_residuals_of_reconstructions_is_refused():
    with pytest.raises(ValueError, match="residuals must be one of.*Received: 'codes'"):
        ResidualProductQuantization(residuals="codes")
    with pytest.raises(ValueError, match="must be None or 'none'. Received: 'all'"):
        ResidualProductQuantization(residuals="reconstructions", straight_through="all")


def test_levels_that_training_leaves_alone_are_not_revived(rng):
    layer = build(2, 2, 8, 8, residuals="reconstructions", codebooks_initializer="ones")
    before = to_numpy(layer.codebooks).copy()
    assert layer.revive_codewords(rng.normal(size=(50, 8)).astype("float32"), rng) == 14
    assert_same(to_numpy(layer.codebooks)[1], before[1])
