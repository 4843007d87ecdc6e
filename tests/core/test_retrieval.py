"""Laws of the retrieval layer: what brute force over the decoded candidates finds, it finds."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import BACKEND, assert_close, assert_same, only_tensorflow, to_numpy
from tests.core.quantizers import draw
from tfpqn.layers import ProductQuantization, ResidualProductQuantization
from tfpqn.retrieval import QuantizedRetrieval
from tfpqn.retrieval.coded_candidates import CodedCandidates

DIM, ITEMS, K = 8, 60, 7
# PyTorch has no order of equal scores: there each candidate has a code of its own.
SIZES = (4, 16) if BACKEND == "torch" else (2, 4)
FLOOR = np.finfo("float32").min
STRINGS = pytest.param("strings", marks=only_tensorflow)
KINDS = ["positions", "integers", STRINGS]


def make_retrieval(embeddings=None, ids=None, **options):
    """A layer of short codes, so that several candidates share one, but where that has no order."""
    quantizer = ProductQuantization(*SIZES, similarity="dot")
    options = {"quantizer": quantizer, "rotation": False, "k": K} | options
    return QuantizedRetrieval(embeddings, ids, **options)


def make_ids(kind, start=0, count=ITEMS):
    numbers = np.arange(start, start + count)
    if kind == "strings":
        return np.array([f"film é{number}" for number in numbers])
    return numbers * 3 + 5 if kind == "integers" else None


def rank(retrieval, queries, embeddings, k=K):
    """Positions of the best by brute force over what the codes stand for, and their scores."""
    rotation = retrieval.candidates.rotation
    turn = np.eye(DIM) if rotation is None else to_numpy(rotation)
    tables = to_numpy(retrieval.quantizer.lookup_tables((queries @ turn).astype("float32")))
    codes = to_numpy(retrieval.quantizer.encode((embeddings @ turn).astype("float32")))
    scores = reference.adc_scores(tables, codes).astype("float32")
    positions = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return positions, np.take_along_axis(scores, positions, axis=1)


def as_text(ids):
    """Ids as numpy gives them to users: TensorFlow's strings are bytes."""
    ids = to_numpy(ids)
    return np.vectorize(bytes.decode)(ids) if ids.dtype == object else ids


@pytest.fixture
def candidates(rng):
    return draw(rng, ITEMS, DIM)


@pytest.fixture
def queries(rng):
    return draw(rng, 5, DIM)


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_brute_force_over_the_codes_finds(candidates, queries, kind):
    ids = make_ids(kind)
    retrieval = make_retrieval(candidates, ids, rotation=kind == "integers")
    positions, scores = rank(retrieval, queries, candidates)
    expected = positions if ids is None else ids[positions]
    found = retrieval(queries)
    assert_close(found[0], scores)
    assert_same(as_text(found[1]), expected)
    predicted = retrieval.predict(queries, verbose=0)
    assert_same(as_text(predicted[1]), expected)


def test_fewer_candidates_than_codewords_are_found_as_brute_force_finds_them(candidates, queries):
    quantizer = ProductQuantization(2, 256, similarity="dot")
    retrieval = QuantizedRetrieval(candidates, quantizer=quantizer, k=K)
    exact = queries @ candidates.T
    scores, ids = retrieval(queries)
    assert_same(ids, np.argsort(-exact, axis=1)[:, :K])
    assert_close(scores, np.sort(-exact, axis=1)[:, :K] * -1, 1e-4)


def test_levels_and_other_similarities_are_searched_as_well(candidates, queries):
    quantizer = ResidualProductQuantization(3, 2, 8, similarity="l2", unit_codewords=False)
    retrieval = make_retrieval(candidates, quantizer=quantizer)
    assert_same(retrieval(queries)[1], rank(retrieval, queries, candidates)[0])


def test_a_call_may_ask_for_another_k_and_for_ids_alone(candidates, queries):
    retrieval = make_retrieval(candidates, return_scores=False)
    assert_same(retrieval(queries, k=3), rank(retrieval, queries, candidates, 3)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_are_fewer_candidates_ids_are_missing_and_scores_finite(
    candidates, queries, kind
):
    ids = make_ids(kind, count=3)
    scores, found = make_retrieval(candidates[:3], ids)(queries)
    assert (as_text(found)[:, 3:] == ("" if kind == "strings" else -1)).all()
    assert_same(np.sort(as_text(found)[0, :3]), np.sort(ids) if ids is not None else np.arange(3))
    assert (to_numpy(scores)[:, 3:] == FLOOR).all()


@pytest.mark.parametrize("kind", KINDS)
def test_exclusions_leave_the_next_best(candidates, queries, kind):
    ids = make_ids(kind)
    retrieval = make_retrieval(candidates, ids)
    positions, scores = rank(retrieval, queries, candidates, K + 3)
    ids = np.arange(ITEMS) if ids is None else ids
    # The first, the third, and one that would not be found.
    excluded = ids[np.stack([positions[:, 0], positions[:, 2], positions[:, -1]], axis=1)]
    left = np.r_[1, 3 : K + 2]
    found = retrieval.query_with_exclusions(queries, excluded)
    assert_close(found[0], scores[:, left])
    assert_same(as_text(found[1]), ids[positions[:, left]])
    scores, found = retrieval.query_with_exclusions(queries, np.tile(ids, (5, 1)))
    assert (as_text(found) == ("" if kind == "strings" else -1)).all()
    assert (to_numpy(scores) == FLOOR).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph is TensorFlow's")
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_leaves_out_as_many_ids_as_come(candidates, queries, kind):
    import tensorflow as tf

    ids = make_ids(kind)
    retrieval = make_retrieval(candidates, ids)
    dtype = tf.string if kind == "strings" else tf.int64
    graph = tf.function(
        retrieval.query_with_exclusions,
        input_signature=[tf.TensorSpec([None, 8]), tf.TensorSpec([None, None], dtype)],
    )
    ids = np.arange(ITEMS) if ids is None else ids
    for width in (0, 1, 3):
        exclusions = np.tile(ids[:width], (len(queries), 1))
        for found, expected in zip(
            graph(queries, exclusions),
            retrieval.query_with_exclusions(queries, exclusions),
            strict=True,
        ):
            assert_same(found, to_numpy(expected))


@pytest.mark.parametrize("kind", ["positions", STRINGS])
def test_batches_of_a_data_set_are_indexed_as_one_array(candidates, queries, kind):
    ids = make_ids(kind)
    parts = [slice(0, 25), slice(25, 50), slice(50, ITEMS)]
    batches = [candidates[part] if ids is None else (ids[part], candidates[part]) for part in parts]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensor_slices(
            candidates if ids is None else (ids, candidates)
        ).batch(25)
    retrieval = make_retrieval().index_from_dataset(batches)
    whole = make_retrieval(candidates, ids)
    assert_same(as_text(retrieval(queries)[1]), as_text(whole(queries)[1]))


@pytest.mark.parametrize("kind", [pytest.param("positions", marks=pytest.mark.slow), STRINGS])
def test_added_candidates_are_found_by_what_was_compiled_before(candidates, queries, kind):
    retrieval = make_retrieval(candidates[:40], make_ids(kind, count=40))
    retrieval.predict(queries, verbose=0)
    retrieval.add(candidates[40:], make_ids(kind, 40, ITEMS - 40))
    positions, _ = rank(retrieval, queries, candidates)
    ids = make_ids(kind)
    expected = positions if ids is None else ids[positions]
    assert_same(as_text(retrieval.predict(queries, verbose=0)[1]), expected)
    assert retrieval.num_candidates == ITEMS


def test_an_update_replaces_all_candidates_and_fits_the_codebooks_to_them(candidates, queries):
    retrieval = make_retrieval(candidates)
    retrieval.predict(queries, verbose=0)
    retrieval.update_candidates(candidates[:30] + 2)
    fresh = make_retrieval(candidates[:30] + 2)
    expected = to_numpy(fresh(queries)[1])
    assert_same(retrieval(queries)[1], expected)
    assert_same(retrieval.predict(queries, verbose=0)[1], expected)


def test_an_update_without_ids_keeps_them_as_in_keras_rs(candidates, queries):
    retrieval = make_retrieval(candidates, make_ids("integers"))
    retrieval.update_candidates(candidates[::-1])
    fresh = make_retrieval(candidates[::-1].copy(), make_ids("integers"))
    assert_same(retrieval(queries)[1], fresh(queries)[1])
    with pytest.raises(ValueError, match=r"must have shape \[9\].* Received: \(60,\)"):
        retrieval.update_candidates(candidates[:9])


@keras.saving.register_keras_serializable(package="tests")
class TwoTowers(keras.Model):
    """A user of the layer: it retrieves when it does not train."""

    def __init__(self, **options):
        super().__init__(**options)
        self.users = keras.layers.Embedding(4, DIM)
        self.retrieval = make_retrieval()

    def build(self, input_shape):
        self.users.build(input_shape)
        self.retrieval.build((None, DIM))

    def call(self, users, training=False):
        embeddings = self.users(users)
        result = {"embeddings": embeddings}
        if not training and self.retrieval.num_candidates:
            result["found"] = self.retrieval(embeddings)
        return result


@pytest.mark.parametrize("kind", [pytest.param("integers", marks=pytest.mark.slow), STRINGS])
def test_a_model_that_holds_it_keeps_the_candidates_in_its_file(candidates, tmp_path, kind):
    model, users = TwoTowers(), np.arange(4)
    model.build((None,))
    model.retrieval.update_candidates(candidates, make_ids(kind))
    found = model.predict(users, verbose=0)["found"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(found, loaded.predict(users, verbose=0)["found"], strict=True):
        assert_same(one, other)
    loaded.retrieval.add(candidates[:1], make_ids(kind, ITEMS, 1))
    model.save_weights(tmp_path / "model.weights.h5")
    # Weights replace what there is, and come where there is nothing yet.
    other = TwoTowers()
    other.build((None,))
    for restored in (loaded, other):
        restored.load_weights(tmp_path / "model.weights.h5")
        assert restored.retrieval.num_candidates == ITEMS
        assert_same(restored(users)["found"][1], found[1])


def test_weights_of_other_candidates_replace_them_or_are_refused(candidates, queries, tmp_path):
    file = tmp_path / "some.weights.h5"
    retrieval = make_retrieval(candidates[:30])
    retrieval.save_weights(file)
    other = make_retrieval(candidates, make_ids("integers"))
    other.load_weights(file)
    assert_same(other(queries)[1], retrieval(queries)[1])
    others = {"quantizer": ProductQuantization(2, 2, similarity="dot")}, {"rotation": True}
    messages = r"at most 1, .* \(30, [24]\), 0 .. ", "rotation=True. Received: .*rotation=False"
    for options, message in zip(others, messages, strict=True):
        other = make_retrieval(**options)
        other.build((None, DIM))
        with pytest.raises(ValueError, match=message):
            other.load_weights(file)


def test_a_model_without_candidates_yet_is_saved_without(tmp_path):
    model = TwoTowers()
    model.build((None,))
    model.save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras").retrieval.num_candidates


def test_the_layer_alone_is_saved_with_its_query_model_and_rotation(candidates, tmp_path):
    tower = keras.Sequential([keras.layers.Embedding(4, DIM), keras.layers.Dense(DIM)])
    retrieval = make_retrieval(candidates, query_model=tower, rotation=True, seed=3)
    scores, ids = retrieval(np.arange(4))
    retrieval.save(tmp_path / "retrieval.keras")
    loaded = keras.saving.load_model(tmp_path / "retrieval.keras")
    assert_same(loaded(np.arange(4))[1], ids)
    assert_same(loaded(np.arange(4))[0], scores)
    assert (loaded.k, loaded.seed, loaded.num_candidates) == (K, 3, ITEMS)


def test_a_functional_model_may_be_made_before_there_are_candidates(candidates, queries):
    inputs = keras.Input((DIM,))
    retrieval = make_retrieval()
    model = keras.Model(inputs, retrieval(inputs))
    assert model.output_shape == [(None, K), (None, K)]
    retrieval.index(candidates)
    assert_same(model.predict(queries, verbose=0)[1], retrieval(queries)[1])


def test_half_precision_changes_neither_scores_nor_ids(candidates, queries):
    expected = make_retrieval(candidates, rotation=True)(queries)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = make_retrieval(candidates, rotation=True)(queries)
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@only_tensorflow
def test_an_exported_model_answers_strings_with_strings(candidates, tmp_path):
    import tensorflow as tf

    lookup = keras.layers.StringLookup(vocabulary=["ann", "bob"])
    tower = keras.Sequential([lookup, keras.layers.Embedding(3, DIM)])
    retrieval = make_retrieval(candidates, make_ids("strings"), query_model=tower)
    users = tf.constant(["bob", "ann", "eve"])
    tower(users)
    signature = [tf.TensorSpec([None], tf.string)]
    retrieval.export(tmp_path / "model", input_signature=signature, verbose=False)
    # Held: TensorFlow keeps the variables of a loaded model no longer than the model.
    loaded = tf.saved_model.load(tmp_path / "model")
    found, expected = loaded.serve(users), retrieval(users)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@pytest.mark.slow
@only_tensorflow
def test_xla_compiles_it_for_integers(candidates, queries):
    import tensorflow as tf

    retrieval = make_retrieval(candidates, make_ids("integers"))
    compiled = tf.function(retrieval, jit_compile=True)
    assert_same(compiled(tf.constant(queries))[1], retrieval(queries)[1])
    retrieval.add(candidates[:2], [1, 2])
    assert_same(compiled(tf.constant(queries))[1], retrieval(queries)[1])


def test_ids_keep_64_bits_where_the_backend_has_them(candidates, queries):
    ids = np.arange(ITEMS) + 2**40
    if BACKEND == "jax":
        with pytest.raises(ValueError, match=r"must fit int32 on jax. Received: 1099511627776"):
            make_retrieval(candidates, ids)
    else:
        assert (to_numpy(make_retrieval(candidates, ids)(queries)[1]) >= 2**40).all()


def test_string_ids_are_refused_where_the_backend_has_none(candidates):
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow has strings")
    with pytest.raises(ValueError, match="String ids need TensorFlow .* integers"):
        make_retrieval(candidates, make_ids("strings"))


def test_before_there_are_candidates_a_call_says_how_to_give_them(queries):
    with pytest.raises(RuntimeError, match="no candidates yet.*update_candidates, index or"):
        make_retrieval()(queries)
    with pytest.raises(RuntimeError, match="no candidates yet"):
        make_retrieval().add(queries)


@pytest.mark.parametrize(
    ("embeddings", "ids", "message"),
    [
        (np.zeros((0, DIM)), None, r"at least one row. Received: float64 \(0, 8\)"),
        (np.zeros(DIM), None, r"\[num_candidates, embedding_dim\].* Received: float64 \(8,\)"),
        (np.full((3, DIM), "a"), None, "must be numbers"),
        (np.full((3, DIM), np.nan), None, "candidate_embeddings must be finite.* in 3 of 3 rows"),
        ([[1.0, 2.0], [3.0]], None, r"must be numbers .* Received: object \(0,\)"),
        (np.zeros((3, 0)), None, r"Received: float64 \(3, 0\)"),
        (np.ones((3, 7)), None, "multiple of num_subspaces. Received: embedding_dim=7"),
        (np.ones((3, DIM)), [1, 2], r"must have shape \[3\].* Received: \(2,\)"),
        (np.ones((3, DIM)), [0.5, 1, 2], "integers or strings. Received: .* float64"),
        (np.ones((3, DIM)), [1, "a", 2], "integers or strings. Received: .* of int and str"),
        (None, [1, 2], "candidate_ids alone"),
    ],
)
def test_wrong_candidates_are_named(embeddings, ids, message):
    with pytest.raises(ValueError, match=message):
        make_retrieval(embeddings, ids)


def test_what_does_not_fit_the_candidates_is_named(candidates, queries):
    retrieval = make_retrieval(candidates, make_ids("integers"))
    with pytest.raises(ValueError, match=r"queries must .* \[rows, 8\].* Received: \(5, 4\)"):
        retrieval(queries[:, :4])
    with pytest.raises(ValueError, match=r"candidate_embeddings .* \[rows, 8\].*: \(60, 4\)"):
        retrieval.add(candidates[:, :4])
    with pytest.raises(ValueError, match="the layer has, integers.* Received: positions"):
        retrieval.add(candidates[:1])
    with pytest.raises(ValueError, match=r"must be new.* Received: 2 .*such as 5"):
        retrieval.add(candidates[:3], [8, 5, 4])
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        retrieval(queries, k=0)
    with pytest.raises(TypeError, match="query_model must be a model.* Received: .*ndarray"):
        make_retrieval(query_model=candidates)
    with pytest.raises(TypeError, match="quantizer must be of tfpqn.layers. Received: .*Dense"):
        make_retrieval(quantizer=keras.layers.Dense(1))
    with pytest.raises(TypeError, match="needs a query_model of Keras 3; export .*function"):
        make_retrieval(query_model=lambda users: users).get_config()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(1, 2, 3)], "Received: tuples of 3"),
        ([np.ones((2, DIM)), ([1, 2], np.ones((2, DIM)))], "embeddings and tuples of 2"),
        ([np.ones((2, DIM)), np.ones((2, 4))], r"first axis alone.* \[\(4,\), \(8,\)\]"),
        ([(1, np.ones(DIM)), (2, np.ones(DIM))], "batch a data set"),
    ],
)
def test_batches_that_do_not_go_together_are_named(batches, message):
    with pytest.raises(ValueError, match=message):
        make_retrieval().index_from_dataset(batches)


def test_exclusions_are_ids_of_the_layers_kind_and_compared_whole(candidates, queries):
    ids = np.arange(ITEMS) + (2**30 if BACKEND == "jax" else 2**40)
    retrieval = make_retrieval(candidates, ids)
    found = to_numpy(retrieval(queries, k=K + 1)[1])
    left = retrieval.query_with_exclusions(queries, found[:, :1].astype("uint64"))[1]
    assert_same(left, found[:, 1:])
    with pytest.raises(ValueError, match="exclusions must fit int"):
        retrieval.query_with_exclusions(queries, np.array([[2**64 - 1]], "uint64"))
    if BACKEND != "jax":
        # Cut to 32 bits, it would be the first that is found.
        wide = found[:, :1] + 2**32
        assert_same(retrieval.query_with_exclusions(queries, wide)[1], found[:, :K])
    for exclusions in (np.arange(5), np.ones((3, 1), int), np.full((5, 1), 0.5)):
        with pytest.raises(ValueError, match=r"exclusions must be ids .* integers, of 5 queries"):
            retrieval.query_with_exclusions(queries, exclusions)


def test_refused_candidates_leave_an_empty_layer_open_for_others(candidates, queries):
    retrieval = make_retrieval()
    with pytest.raises(ValueError, match="must be finite"):
        retrieval.index(np.full((3, 2 * DIM), np.nan))
    retrieval.index(candidates)
    assert_same(retrieval(queries)[1], rank(retrieval, queries, candidates)[0])
    cosine = make_retrieval(quantizer=ProductQuantization(*SIZES, similarity="cosine"))
    with pytest.raises(ValueError, match="must have a direction"):
        cosine.index(np.zeros((3, 2 * DIM)))
    assert_same(cosine.index(candidates)(queries)[1], rank(cosine, queries, candidates)[0])


def test_what_a_damaged_file_holds_is_named(candidates):
    retrieval = make_retrieval(candidates)
    store = {}
    retrieval.candidates.save_own_variables(store)
    for codes in (store["codes"].astype("int8") - 1, store["codes"].astype("float32")):
        with pytest.raises(ValueError, match=r"integers of at most (3|15),.* (int8|float32)"):
            retrieval.candidates.load_own_variables({**store, "codes": codes})


@only_tensorflow
def test_a_search_between_the_steps_of_adding_finds_no_code_without_an_id(
    candidates, queries, monkeypatch
):
    ids = make_ids("integers")
    retrieval = make_retrieval(candidates[:30], ids[:30])
    hold, found = CodedCandidates._hold, []

    def hold_and_search(*arguments):
        hold(*arguments)
        found.append(to_numpy(retrieval(queries)[1]))

    monkeypatch.setattr(CodedCandidates, "_hold", hold_and_search)
    retrieval.add(candidates[30:], ids[30:])
    assert len(found) == 2 and np.isin(found, ids).all()
    # While it adds, a place without a candidate gets no id of those that come.
    more = np.arange(1000, 1010)
    scores, positions = retrieval.candidates.find(queries, ITEMS + 5)
    monkeypatch.undo()
    retrieval.add(candidates[:10], more)
    found = to_numpy(retrieval.candidates.ids_at(positions))
    assert ((found == -1) == (to_numpy(scores) == FLOOR)).all()


@only_tensorflow
def test_strings_in_a_list_keep_the_null_characters_at_their_ends(candidates):
    retrieval = make_retrieval(candidates[:2], ["a", "a\0"])
    _, found = retrieval(candidates[:1], k=2)
    assert set(to_numpy(found)[0]) == {b"a", b"a\0"}
