"""The flavour for servers with XLA enabled: the same answers, and never by accident."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export.native_calls import Call, answer_natively
from tests.export.test_storages import NUM_CODEWORDS, make_queries, make_vectors, rank, score
from tests.export.tiny import make_embeddings, make_network, make_searcher
from tfpqn.export import check_ops, save_searcher, verify_version
from tfpqn.export.search.storages.flat_codes import FlatCodes


@pytest.mark.parametrize("num_items", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("top_k", [1, 7, 250])
def test_the_compiled_scan_finds_what_a_stable_sort_finds(num_items, top_k):
    rng = np.random.default_rng(num_items)
    codes = rng.integers(0, NUM_CODEWORDS, (num_items, 3)).astype(np.uint8)
    queries = make_queries(rng, make_vectors(rng, 3, 1), 3)
    found = FlatCodes(codes, 64, NUM_CODEWORDS).find(queries, top_k)
    positions, scores = rank(score(queries, codes), top_k)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def version(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "compiled" / "1"
    return save_searcher(make_searcher(network, xla=True), folder)


@pytest.mark.slow
def test_an_exported_model_is_checked_with_xla_enabled(version, network):
    assert json.loads((version / "manifest.json").read_text())["xla"] is True
    assert "--xla_cpu_compilation_enabled=true" in (version / "README.txt").read_text()
    assert "C API with XLA" in verify_version(version).readers
    loaded = tf.saved_model.load(str(version))
    embeddings = make_embeddings(5)
    found = loaded.signatures["search_by_embedding"](embeddings=tf.constant(embeddings))
    expected = make_searcher(network).search_by_embedding(embeddings)
    np.testing.assert_array_equal(found["ids"], expected.ids)
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=0, atol=1e-5)


def test_a_server_without_xla_refuses_it_in_plain_words(version, tmp_path):
    call = Call("search_by_embedding", {"embeddings": make_embeddings(1)})
    refusal = answer_natively({str(version): {"search": call}}, tmp_path)
    assert "XLA" in refusal[str(version)].results["search"].message
    with pytest.raises(ValueError, match="no must-compile"):
        check_ops(version)


def test_other_models_hold_no_mark_of_xla(network, tmp_path):
    path = save_searcher(make_searcher(network), tmp_path / "1")
    check_ops(path)
    assert json.loads((path / "manifest.json").read_text())["xla"] is False


def test_xla_with_lists_is_refused(network):
    with pytest.raises(ValueError, match="xla is for a search over all items"):
        make_searcher(network, xla=True, partition=3)
