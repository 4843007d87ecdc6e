"""The flavour for servers with XLA enabled: the same answers, and never by accident."""

import json

import numpy as np
import pytest

from tests.export.native_calls import Call, answer_natively
from tests.export.test_storages import NUM_CODEWORDS, make_queries, make_vectors, rank, score
from tests.export.tiny import assert_found, make_embeddings, make_network, make_searcher
from tfpqn.export import check_ops, load_searcher, save_searcher, verify_version
from tfpqn.export.search.storages.flat_codes import FlatCodes


@pytest.mark.slow
@pytest.mark.parametrize("num_items", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("top_k", [1, 250])
def test_the_compiled_scan_finds_what_a_stable_sort_finds(num_items, top_k):
    rng = np.random.default_rng(num_items)
    codes = rng.integers(0, NUM_CODEWORDS, (num_items, 3)).astype(np.uint8)
    queries = make_queries(rng, make_vectors(rng, 3, 1), 3)
    found = FlatCodes(codes, NUM_CODEWORDS).find(queries, top_k)
    positions, scores = rank(score(queries, codes), top_k)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


@pytest.mark.slow
def test_a_model_for_xla_is_checked_with_it_and_refused_without(tmp_path):
    network = make_network()
    version = save_searcher(make_searcher(network, xla=True), tmp_path / "compiled" / "1")
    assert json.loads((version / "manifest.json").read_text())["xla"] is True
    assert "--xla_cpu_compilation_enabled=true" in (version / "README.txt").read_text()
    assert "C API with XLA" in verify_version(version).readers
    embeddings = make_embeddings(5)
    found = load_searcher(version).search_by_embedding(embeddings)
    assert_found(found, make_searcher(network).search_by_embedding(embeddings))
    call = Call("search_by_embedding", {"embeddings": embeddings})
    (refused,) = answer_natively([(version, {"search": call}, True)], tmp_path)
    assert "XLA" in refused.results["search"].message
    with pytest.raises(ValueError, match="no must-compile"):
        check_ops(version)


def test_xla_is_for_a_flat_search_and_off_unless_told(exported):
    with pytest.raises(ValueError, match="xla is for a search over all items"):
        make_searcher(make_network(), xla=True, partition=3)
    path = exported("pqn")
    check_ops(path)
    assert json.loads((path / "manifest.json").read_text())["xla"] is False
