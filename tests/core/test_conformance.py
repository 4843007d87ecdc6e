"""Laws that every quantizer keeps. A new quantizer is one more row of the table."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import (
    assert_close,
    assert_same,
    compiled,
    few_examples,
    gradients,
    kept_dtype,
    only_tensorflow,
    to_numpy,
)
from tests.core.quantizers import first_vectors
from tfpqn.codebooks.kmeans import fit_codebooks
from tfpqn.codebooks.revival import revive_codewords
from tfpqn.layers import (
    ProductQuantization,
    Quantizer,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.ops import adc_scores


class Row(NamedTuple):
    """A quantizer by name, what makes one, and the length of its embeddings."""

    name: str
    factory: Callable[..., Quantizer]
    embedding_dim: int


CLASSES = (ProductQuantization, ResidualProductQuantization, TemporalProductQuantization)
# Sizes and options -> a factory that takes more options.
product, residual, temporal = (partial(partial, kind) for kind in CLASSES)
OWN_LENGTHS = {"unit_codewords": False}
ROWS = (
    Row("product", product(4, 16), 20),
    Row("product-of-many-codewords", product(1, 300), 4),
    Row("product-of-own-lengths", product(4, 16, soft_codes=True, **OWN_LENGTHS), 20),
    Row("product-by-cosine", product(4, 16, similarity="cosine", **OWN_LENGTHS), 20),
    Row("residual", residual(3, 2, 16), 20),
    Row("residual-of-own-lengths", residual(2, 1, 16, **OWN_LENGTHS), 5),
    Row("residual-by-beam", residual(3, 2, 8, beam_size=3, **OWN_LENGTHS), 20),
    Row("temporal", temporal(2, 2, 16), 20),
    Row(
        "temporal-pyramid-of-own-lengths",
        temporal((1, 2), 1, 8, soft_codes=True, **OWN_LENGTHS),
        12,
    ),
    Row("temporal-residual", temporal(2, 2, 16, levels=2), 20),
)
# What differs little from another row is checked where minutes do not matter.
SLOW_ROWS = {"residual-of-own-lengths", "temporal-pyramid-of-own-lengths", "temporal"}


@pytest.fixture(
    params=[
        pytest.param(row, marks=[pytest.mark.slow] if row.name in SLOW_ROWS else [], id=row.name)
        for row in ROWS
    ]
)
def row(request):
    return request.param


@pytest.fixture
def quantizer(row):
    quantizer = row.factory()
    quantizer.build((None, row.embedding_dim))
    return quantizer


@pytest.fixture
def embeddings(row, rng):
    return rng.normal(size=(12, row.embedding_dim)).astype("float32")


def model_around(quantizer, embedding_dim):
    inputs = keras.Input((embedding_dim,), name="embeddings")
    return keras.Model(inputs, quantizer(inputs))


def take_weights_of(quantizer, row, **options):
    """Another quantizer of the row with the same weights."""
    again = row.factory(**options)
    again.build((None, row.embedding_dim))
    again.set_weights(quantizer.get_weights())
    return again


def build_from_loop_sizes(kind, num_segments, sizes, **options):
    """A quantizer of the kind over embeddings, or over frames, of the sizes."""
    num_levels, num_subspaces, num_codewords, subvector_dim = sizes
    make = {
        "product": product(num_subspaces, num_codewords),
        "residual": residual(num_levels, num_subspaces, num_codewords),
        "temporal": temporal(num_segments, num_subspaces, num_codewords, levels=num_levels),
    }[kind]
    quantizer = make(**options)
    frames = (None,) if kind == "temporal" else ()
    quantizer.build((None, *frames, num_subspaces * subvector_dim))
    return quantizer


def draw_codebooks(rng, quantizer):
    """Of any length, and smaller from level to level: `[num_levels, ...]`, and given to it."""
    shape = (quantizer.num_levels, *quantizer.codebooks.shape[-3:])
    scales = 0.6 ** np.arange(shape[0])[:, None, None, None]
    codebooks = (rng.normal(size=shape) * scales).astype("float32")
    quantizer.codebooks.assign(codebooks.reshape(quantizer.codebooks.shape))
    return codebooks


@pytest.mark.parametrize(
    ("kind", "tolerance", "detour"),
    [("product", 1e-5, 1e-5), ("residual", 1e-5, 1e-4), ("temporal", 1e-4, 1e-4)],
)
@few_examples
@given(
    st.sampled_from([1, 2, 3, (1, 2), (2, 1, 4)]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), st.integers(1, 4)),
    st.floats(0.5, 20.0),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_soft_and_hard_quantization_match_the_loops(
    kind, tolerance, detour, num_segments, sizes, alpha, unit_codewords, soft_codes, seed
):
    options = {"alpha": alpha, "unit_codewords": unit_codewords, "soft_codes": soft_codes}
    quantizer = build_from_loop_sizes(kind, num_segments, sizes, **options)
    rng = np.random.default_rng(seed)
    codebooks = draw_codebooks(rng, quantizer)
    frames = (int(rng.integers(4, 7)),) if kind == "temporal" else ()
    items = rng.normal(size=(5, *frames, sizes[1] * sizes[3])).astype("float32")
    embeddings = reference.pool_clips(items, quantizer.pyramid) if frames else items
    # Directions alone decide what training reconstructs.
    soft = reference.reconstruct_soft(embeddings, codebooks[0], alpha)
    assert_close(quantizer(items, training=True), soft, tolerance)
    levels = reference.unit_first(codebooks) if unit_codewords else codebooks
    # Codewords that are equally near, up to rounding, may be chosen either way.
    codes = to_numpy(quantizer.encode(items))
    assert codes.shape == (5, quantizer.code_length) == (5, codebooks[..., 0, 0].size)
    assert reference.residual_detours(embeddings, soft, levels, codes, soft_codes).max() < detour
    assert_close(quantizer.decode(codes), reference.residual_decode(codes, levels))
    tables = reference.residual_lookup_tables(embeddings, levels)
    assert_close(quantizer.lookup_tables(items), tables, tolerance)


def test_shapes_and_dtypes_are_as_documented(row, quantizer, embeddings):
    assert quantizer.embedding_dim == row.embedding_dim
    bits = quantizer.code_length * np.log2(quantizer.num_codewords)
    assert quantizer.bits_per_code == pytest.approx(bits)
    codes = quantizer.encode(embeddings)
    assert codes.shape == (12, quantizer.code_length)
    assert keras.backend.standardize_dtype(codes.dtype) == kept_dtype(quantizer.code_dtype)
    assert to_numpy(codes).max() < quantizer.num_codewords
    tables = quantizer.lookup_tables(embeddings)
    assert tables.shape == (12, quantizer.code_length, quantizer.num_codewords)
    same = (12, row.embedding_dim)
    assert quantizer.decode(codes).shape == quantizer.normalize(embeddings).shape == same
    for training in (False, True):
        assert quantizer(embeddings, training=training).shape == same
    trained = quantizer.quantize_embeddings(embeddings, training=True)
    assert trained.reconstruction.shape == same
    # Training sees the first level alone.
    per_level = quantizer.code_length // quantizer.num_levels
    assert trained.codes.shape == (12, per_level)
    if quantizer.product_quantizer().unit_codewords and "beam" not in row.name:
        assert_same(trained.codes, to_numpy(codes)[:, :per_level])


def test_inference_is_encoding_and_decoding(quantizer, embeddings):
    decoded = to_numpy(quantizer.decode(quantizer.encode(embeddings)))
    assert_same(quantizer(embeddings), decoded)
    assert_same(quantizer(embeddings, training=False), decoded)


def test_the_scores_of_the_tables_are_those_of_the_reconstructions(row, quantizer, embeddings, rng):
    queries = rng.normal(size=(3, row.embedding_dim)).astype("float32")
    codes = quantizer.encode(embeddings)
    tables = quantizer.lookup_tables(queries)
    scores = adc_scores(tables, codes)
    assert_close(scores, reference.adc_scores(to_numpy(tables), to_numpy(codes)))
    queries, decoded = to_numpy(quantizer.normalize(queries)), to_numpy(quantizer.decode(codes))
    if quantizer.product_quantizer().similarity == "cosine":
        distances = np.square(queries[:, None] - decoded).sum(axis=-1)
        assert_close(scores, 1 - distances / 2)
    else:
        assert_close(scores, queries @ decoded.T)


def test_encoding_takes_embeddings_normalised_or_not(quantizer, embeddings):
    normalized = quantizer.normalize(embeddings)
    assert_close(quantizer.normalize(normalized), normalized)
    codes = to_numpy(quantizer.encode(embeddings))
    assert_same(quantizer.encode(normalized), codes)
    for length in (7.5, 1e-8, 1e-30, 1e8, 1e30):
        scaled = np.float32(length) * embeddings
        assert_same(quantizer.encode(scaled), codes)
    assert_close(quantizer.lookup_tables(normalized), quantizer.lookup_tables(embeddings))


def test_lists_and_wider_floats_are_taken_as_well(quantizer, embeddings):
    codes = to_numpy(quantizer.encode(embeddings))
    for same in (embeddings.tolist(), embeddings.astype("float64")):
        assert_same(quantizer.encode(same), codes)
    decoded = to_numpy(quantizer.decode(codes))
    for same in (codes.tolist(), codes.astype("int64")):
        assert_same(quantizer.decode(same), decoded)


def test_every_item_is_quantized_for_itself(quantizer, embeddings):
    for function in (quantizer.encode, quantizer, quantizer.lookup_tables):
        together = to_numpy(function(embeddings))
        alone = np.concatenate([to_numpy(function(row[None])) for row in embeddings])
        assert_close(alone, together, 1e-6)


def test_gradients_reach_embeddings_and_codebooks(quantizer, embeddings, rng):
    weights = rng.normal(size=embeddings.shape).astype("float32")

    def total(embeddings, *variables):
        outputs, _ = quantizer.stateless_call(list(variables), [], embeddings, training=True)
        return ops.sum(ops.multiply(weights, outputs))

    variables = [to_numpy(variable) for variable in quantizer.trainable_variables]
    assert len(variables) == len(quantizer.weights) >= 1
    for gradient in gradients(total, embeddings, *variables):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 1e-6


def test_zero_embeddings_stay_finite_and_so_do_their_gradients(row, quantizer):
    zeros = np.zeros((2, row.embedding_dim), "float32")
    for training in (False, True):
        assert np.isfinite(to_numpy(quantizer(zeros, training=training))).all()
    assert np.isfinite(to_numpy(quantizer.lookup_tables(zeros))).all()
    assert_same(quantizer.encode(zeros), quantizer.encode(zeros))
    (gradient,) = gradients(lambda x: ops.sum(quantizer(x, training=True)), zeros)
    assert np.isfinite(gradient).all()


def test_it_compiles_for_any_number_of_rows(row, quantizer, embeddings):
    def answer(x):
        codes = quantizer.encode(x)
        whole = quantizer(x, training=True), quantizer(x), quantizer.lookup_tables(x)
        return *whole, ops.cast(codes, "int32"), quantizer.decode(codes)

    fast = compiled(answer, embeddings)
    for batch in (12, 1):
        pairs = zip(fast(embeddings[:batch]), answer(embeddings[:batch]), strict=True)
        for found, expected in pairs:
            assert_close(found, expected)
    assert model_around(quantizer, row.embedding_dim).output_shape == (None, row.embedding_dim)
    assert quantizer.compute_output_shape((None, row.embedding_dim)) == (None, row.embedding_dim)


def test_the_configuration_holds_every_argument_and_comes_back(row, quantizer, embeddings):
    again = keras.layers.deserialize(keras.layers.serialize(quantizer))
    assert type(again) is type(quantizer)
    assert again.get_config() == quantizer.get_config()
    again.set_weights(quantizer.get_weights())  # built already, as all that Keras reads back
    assert_same(again(embeddings), quantizer(embeddings))
    given = {"alpha": 2.5, "name": "codes", "trainable": False}
    given_quantizer = row.factory(**given, codebooks_initializer="glorot_uniform")
    config = given_quantizer.get_config()
    assert config == {**config, **given}
    arguments = set(inspect.signature(type(quantizer).__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(config)
    again = type(quantizer).from_config(config)
    assert again.get_config() == config
    initializer = again.product_quantizer().codebooks_initializer
    assert isinstance(initializer, keras.initializers.GlorotUniform)


def test_a_keras_file_brings_back_codes_and_fingerprint(row, quantizer, embeddings, tmp_path):
    model = model_around(quantizer, row.embedding_dim)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(again(embeddings), model(embeddings))
    loaded = again.layers[-1]
    assert_same(loaded.encode(embeddings), quantizer.encode(embeddings))
    assert loaded.codebook_fingerprint() == quantizer.codebook_fingerprint()


@only_tensorflow
@pytest.mark.slow
def test_a_saved_model_gives_the_same_reconstructions_and_codes(
    row, quantizer, embeddings, tmp_path
):
    import tensorflow as tf

    model_around(quantizer, row.embedding_dim).export(tmp_path / "model", verbose=False)
    model = tf.saved_model.load(tmp_path / "model")
    archive = keras.export.ExportArchive()
    archive.track(quantizer)
    signature = [tf.TensorSpec([None, row.embedding_dim], tf.float32, name="embeddings")]
    archive.add_endpoint("encode", quantizer.encode, signature)
    archive.write_out(tmp_path / "codes", verbose=False)
    codes = tf.saved_model.load(tmp_path / "codes")
    for batch in (12, 1):
        rows = embeddings[:batch]
        np.testing.assert_array_equal(model.serve(rows).numpy(), quantizer(rows).numpy())
        np.testing.assert_array_equal(codes.encode(rows).numpy(), quantizer.encode(rows).numpy())


def test_mixed_precision_is_float32_inside_and_half_outside(row, quantizer, embeddings):
    embeddings = embeddings.astype("float16").astype("float32")  # the same in both precisions
    mixed = take_weights_of(quantizer, row, dtype="mixed_float16")
    assert {variable.dtype for variable in mixed.weights} == {"float32"}
    for training in (False, True):
        outputs = mixed(embeddings, training=training)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
        expected = to_numpy(quantizer(embeddings, training=training))
        assert_same(outputs, expected.astype("float16"))
    assert keras.backend.standardize_dtype(mixed.normalize(embeddings).dtype) == "float32"
    assert_close(mixed.lookup_tables(embeddings), quantizer.lookup_tables(embeddings), 1e-6)
    assert_same(mixed.encode(embeddings), quantizer.encode(embeddings))


def test_the_fingerprint_is_that_of_the_codebooks(row, quantizer):
    fingerprint = quantizer.codebook_fingerprint()
    assert len(bytes.fromhex(fingerprint)) == 32
    assert quantizer.codebook_fingerprint() == fingerprint
    again = take_weights_of(quantizer, row)
    assert again.codebook_fingerprint() == fingerprint
    codebooks = np.array(to_numpy(again.codebooks))
    codebooks.flat[-1] = np.nextafter(codebooks.flat[-1], np.inf, dtype="float32")
    again.codebooks.assign(codebooks)
    assert again.codebook_fingerprint() != fingerprint


def fingerprint_of_numbers(make, embedding_dim):
    """Of a quantizer whose codebooks hold 0, 1, 2, and so on."""
    quantizer = make()
    quantizer.build((None, embedding_dim))
    shape = quantizer.codebooks.shape
    quantizer.codebooks.assign(np.arange(np.prod(shape)).reshape(shape))
    return quantizer.codebook_fingerprint()


@pytest.mark.parametrize(
    ("make", "embedding_dim", "digest"),
    [
        (product(2, 3), 8, "8ffe57198379e62041c45db7d8ebc8b2f981227254c001460438363b6db64b71"),
        (residual(1, 2, 3), 8, "5e9289b0d583dea3aa958628454be5e9f170a4082c57362a0223555dd7e0d2d3"),
        (residual(2, 2, 3), 8, "2e11a66637d2679d286d35b8621aba9ea5c3773d01a208f89ed4da980bf2fefa"),
        (
            temporal((1, 2), 1, 4),
            12,
            "c26321f5d9609eb524b3ec0275c0aecfe08bb7b447b6ea9abd9d6fb0b079c8e6",
        ),
    ],
)
def test_the_fingerprint_is_the_same_everywhere_and_for_ever(make, embedding_dim, digest):
    """Indices on disk carry it: another digest for the same codebooks would refuse them all."""
    assert fingerprint_of_numbers(make, embedding_dim) == digest


def test_the_fingerprint_tells_layouts_of_the_same_numbers_apart():
    layouts = [
        (product(2, 3), 8),
        (product(2, 3, **OWN_LENGTHS), 8),
        (residual(1, 2, 3), 8),
        (residual(2, 1, 3), 4),
        (residual(2, 1, 3, **OWN_LENGTHS), 4),
        (residual(3, 2, 2), 4),
        (residual(2, 3, 2), 6),
        *((temporal(segments, 1, 3), 14) for segments in (7, (1, 2, 4), (4, 2, 1))),
    ]
    prints = [fingerprint_of_numbers(*layout) for layout in layouts]
    assert len(set(prints)) == len(layouts)
    # 7 segments are the same however they are written.
    assert fingerprint_of_numbers(temporal((7,), 1, 3), 14) in prints


def test_what_needs_codebooks_is_refused_before_encoding_builds_the_layer(row, embeddings):
    quantizer = row.factory()
    codes = np.zeros((1, quantizer.code_length), "uint8")
    for method, call in (
        ("decode", lambda: quantizer.decode(codes)),
        ("codebook_fingerprint", quantizer.codebook_fingerprint),
        ("embedding_dim", lambda: quantizer.embedding_dim),
    ):
        with pytest.raises(RuntimeError, match=f"{method} needs the codebooks.*to be built"):
            call()
    codes = quantizer.encode(embeddings)
    assert quantizer.embedding_dim == row.embedding_dim
    assert_same(quantizer.encode(embeddings), codes)
    # An empty batch has empty codes.
    nothing = quantizer.encode(embeddings[:0])
    assert nothing.shape == (0, quantizer.code_length)
    assert quantizer.decode(nothing).shape == (0, row.embedding_dim)


def test_embeddings_of_the_wrong_shape_are_refused(row, quantizer):
    dim = row.embedding_dim
    for shape in ((2, 2 * dim), (dim,), (2, 2, dim)):
        for method in (quantizer.encode, quantizer.lookup_tables):
            with pytest.raises(ValueError, match=rf"\[batch, {dim}\]. Received: \({shape[0]}, ?"):
                method(np.ones(shape, "float32"))
        with pytest.raises(ValueError, match="expected"):
            quantizer(np.ones(shape, "float32"))


# NumPy warns of the last before JAX has it.
@pytest.mark.parametrize(
    "bad", [np.nan, np.inf, -np.inf, pytest.param(1e300, marks=only_tensorflow)]
)
def test_embeddings_that_are_not_finite_as_float32_are_refused(quantizer, embeddings, bad):
    embeddings = embeddings.astype("float64")
    embeddings[3, 1] = embeddings[5, 0] = embeddings[5, 1] = bad
    for method in (quantizer.encode, quantizer.lookup_tables):
        with pytest.raises(ValueError, match="finite.* in 2 of 12 rows, the first at row 3"):
            method(embeddings)


def test_codes_that_cannot_be_are_refused(quantizer):
    length, size = quantizer.code_length, quantizer.num_codewords
    for shape in ((2, length + 1), (length,)):
        with pytest.raises(ValueError, match=rf"codes must have shape \[batch, {length}\]"):
            quantizer.decode(np.zeros(shape, "int32"))
    for bad in (size, -1):
        codes = np.zeros((2, length), "int32")
        codes[1, -1] = bad
        with pytest.raises(ValueError, match=rf"in 0 .. {size - 1}. Received: .*{bad}"):
            quantizer.decode(codes)


def test_fitting_needs_finite_embeddings_of_the_right_shape(row, quantizer, rng):
    bad = np.full((3, row.embedding_dim), np.nan, "float32")
    codebooks = to_numpy(quantizer.codebooks).copy()
    for embeddings, message in ((bad, "finite"), (bad[:, :-1], r"\[batch, ")):
        with pytest.raises(ValueError, match=message):
            fit_codebooks(quantizer, embeddings, first_vectors)
        with pytest.raises(ValueError, match=message):
            revive_codewords(quantizer, embeddings, rng)
    assert_same(quantizer.codebooks, codebooks)


def test_a_prefix_is_the_quantizer_of_the_first_positions(row, quantizer, embeddings):
    codes, tables = (
        to_numpy(quantizer.encode(embeddings)),
        to_numpy(quantizer.lookup_tables(embeddings)),
    )
    prints = set()
    for num_levels in range(1, quantizer.num_levels + 1):
        shorter = quantizer.prefix(num_levels)
        length = num_levels * quantizer.code_length // quantizer.num_levels
        assert (shorter.num_levels, shorter.code_length) == (num_levels, length)
        assert_close(shorter.lookup_tables(embeddings), tables[:, :length], 1e-6)
        if "beam" not in row.name:
            assert_same(shorter.encode(embeddings), codes[:, :length])
        # Training sees the first level alone.
        assert_close(shorter(embeddings, training=True), quantizer(embeddings, training=True), 1e-6)
        prints.add(shorter.codebook_fingerprint())
    assert len(prints) == quantizer.num_levels
    assert quantizer.codebook_fingerprint() in prints
    before = to_numpy(quantizer.codebooks).copy()
    shorter.codebooks.assign(np.zeros(before.shape))  # a copy
    assert_same(quantizer.codebooks, before)


def test_a_prefix_of_levels_that_are_not_there_is_refused(row, quantizer):
    for number in (0, quantizer.num_levels + 1, 1.0, True, None):
        with pytest.raises(ValueError, match=rf"in 1 .. \d, .*Received: num_levels={number}"):
            quantizer.prefix(number)
    with pytest.raises(RuntimeError, match="prefix needs the codebooks"):
        row.factory().prefix(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_codebooks_that_tell_nothing_apart_are_refused(quantizer, bad):
    quantizer.require_usable_codebooks()
    quantizer.codebooks.assign(to_numpy(quantizer.codebooks) * 0.0 + bad)
    with pytest.raises(ValueError, match="must be finite and not all zero.*Received: "):
        quantizer.require_usable_codebooks()


REFUSED_BY_ALL = [
    ({"num_subspaces": 0}, "num_subspaces must be an integer of at least 1.*num_subspaces=0"),
    ({"num_subspaces": 2.0}, "num_subspaces must be an integer .*num_subspaces=2.0"),
    ({"num_codewords": 1}, "num_codewords must be an integer of at least 2.*num_codewords=1"),
    ({"num_codewords": "16"}, "num_codewords must be an integer .*num_codewords=16"),
    ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
    ({"alpha": float("inf")}, "alpha must be positive and finite. Received: alpha=inf"),
    ({"alpha": float("nan")}, "alpha must be positive and finite. Received: alpha=nan"),
]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((make, *row) for make in CLASSES for row in REFUSED_BY_ALL),
        (ProductQuantization, {"similarity": "angle"}, "one of subspace, cos.*similarity='angle'"),
        *(
            (m, {"similarity": "l2", "unit_codewords": True}, "must be False with sim.*'l2'")
            for m in CLASSES[:2]
        ),
        (ResidualProductQuantization, {"num_levels": 0}, "num_levels must be an .*num_levels=0"),
        (ResidualProductQuantization, {"beam_size": 0}, "beam_size must be an .*beam_size=0"),
        (TemporalProductQuantization, {"levels": 0}, "levels must be an integer .*levels=0"),
        (TemporalProductQuantization, {"num_segments": 0}, "num_segments must be .*num_segments=0"),
        (TemporalProductQuantization, {"num_segments": None}, "must be .*num_segments=None"),
        (TemporalProductQuantization, {"num_segments": (1, 0)}, "must be .*num_segments=0"),
        (TemporalProductQuantization, {"num_segments": ()}, r"at least one .*num_segments=\(\)"),
    ],
)
def test_bad_arguments_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make", CLASSES)
def test_a_length_that_does_not_divide_is_refused(make):
    message = "embedding_dim=10, num_subspaces=4"
    for use in (
        lambda layer: layer.build((None, 10)),
        lambda layer: layer.encode(np.zeros((2, 10), "float32")),
        lambda layer: keras.Sequential([keras.Input((10,)), layer]),
    ):
        with pytest.raises(ValueError, match=message):
            use(make(num_subspaces=4, num_codewords=8))
