"""The proof of the export: whoever loads a saved folder, the answers are those of a slow loop.

Three readers: `tf.saved_model.load`, a TensorFlow 1 session, and TensorFlow's C API (the loader of
the C++ server) with XLA compilation disabled, as the stock server has it.
"""

import re

import numpy as np
import pytest

from tests.export import zoo
from tests.export.native_calls import Refusal
from tests.export.tiny import EMBEDDING_DIM, assert_found
from tfpqn.export import SearchResult
from tfpqn.export.interface.signatures import Signature, TensorInfo

every_reader = pytest.mark.parametrize(
    "reader", ["saved model", pytest.param("session", marks=pytest.mark.slow), "C API"]
)
every_kind = pytest.mark.parametrize(
    "kind",
    ["pqn", *(pytest.param(kind, marks=pytest.mark.slow) for kind in zoo.OPTIONS if kind != "pqn")],
)


@every_reader
@every_kind
def test_every_reader_finds_what_a_loop_over_all_scores_finds(answers, kind, reader):
    model, received = zoo.make_model(kind), answers(kind, reader).results
    label_of = dict(zip(model.index.ids, map(str, zoo.LABELS), strict=True))
    for name in zoo.make_calls(model):
        assert not isinstance(received[name], Refusal), f"{name}: {received[name]}"
        found = SearchResult.from_outputs(received[name])
        assert_found(found, zoo.expect(model, name))
        labels = [[label_of.get(id_, "") for id_ in row] for row in found.ids]
        assert found.labels.tolist() == labels, name
        if name == "by id":
            assert found.matches is None
            continue
        # Scores near the threshold may round to either side; there are none.
        assert np.abs(found.scores - zoo.THRESHOLD).min() > 1e-5
        np.testing.assert_array_equal(found.matches, found.scores >= zoo.THRESHOLD)


@every_reader
@every_kind
def test_every_reader_embeds_and_codes_as_a_loop_over_the_weights_does(answers, kind, reader):
    model, results = zoo.make_model(kind), answers(kind, reader).results
    for name, received, expected in (
        ("embed", results["embed"]["embeddings"], model.embeddings),
        ("encode", results["encode"]["codes"], model.slow.encode(model.embeddings)),
        ("decode", results["decode"]["embeddings"], model.slow.decode(model.index.codes[:5])),
    ):
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5, err_msg=name)


@every_reader
@every_kind
def test_every_reader_refuses_bad_input_by_its_name(answers, kind, reader):
    results = answers(kind, reader).results
    for name, (_, words) in zoo.bad_inputs(zoo.make_model(kind)).items():
        refusal = results["bad", name]
        assert isinstance(refusal, Refusal), f"{name} was not refused: {refusal}"
        assert refusal.code == "INVALID_ARGUMENT"
        assert re.search(words, refusal.message, re.DOTALL), f"{name}: {refusal.message}"


@every_reader
@every_kind
def test_every_reader_sees_the_same_signatures(answers, kind, reader):
    model = zoo.make_model(kind)
    id_type, rank = model.index.id_type, model.network.items.encoded_rank
    items = {model.network.items.input_name: TensorInfo("string", (None,) * rank)}
    embeddings = {"embeddings": TensorInfo("float32", (None, EMBEDDING_DIM))}
    codes = {"codes": TensorInfo("int32", (None, model.code_length))}
    dtypes = {"ids": id_type, "scores": "float32", "labels": "string"}
    by_id = {name: TensorInfo(dtype, (None, model.top_k)) for name, dtype in dtypes.items()}
    found = {**by_id, "matches": TensorInfo("bool", (None, model.top_k))}
    any_number = {name: info._replace(shape=(None, None)) for name, info in found.items()}
    excluded = {"exclude_ids": TensorInfo(id_type, (None, None))}
    tags = {name: TensorInfo("string", (None, None)) for name in ("allow_tags", "deny_tags")}
    expected = {
        "serving_default": Signature(items, found),
        "search": Signature(items, found),
        "search_by_embedding": Signature(embeddings, found),
        "search_by_id": Signature({"item_ids": TensorInfo(id_type, (None,))}, by_id),
        "search_with_exclusions": Signature({**items, **excluded}, found),
        "search_with_filters": Signature({**items, **tags}, found),
        "search_k": Signature({**items, "k": TensorInfo("int32", ())}, any_number),
        "embed": Signature(items, embeddings),
        "encode": Signature(items, codes),
        "decode": Signature(codes, embeddings),
    }
    if "lists" in kind:
        probes = {"num_probes": TensorInfo("int32", ())}
        expected["search_with_probes"] = Signature({**items, **probes}, found)
    assert answers(kind, reader).signatures == expected
