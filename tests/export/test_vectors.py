"""Laws of exported vectors: what is found is what slow NumPy finds by the formula."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tfpqn.datasets import VectorSet
from tfpqn.export import Searcher, load_searcher, save_searcher
from tfpqn.index import CodeIndex, build_index
from tfpqn.layers import ProductQuantization, ResidualProductQuantization
from tfpqn.models import ProductQuantizationNetwork

RNG = np.random.default_rng(5)
VECTORS = (RNG.normal(size=(300, 8)) * np.linspace(0.3, 2, 8)).astype(np.float32)
QUERIES = (VECTORS[:9] + RNG.normal(size=(9, 8)) * 0.1).astype(np.float32)
COLOURS = np.arange(300) % 3
TOP_K = 6


def make_network(similarity, num_levels=1):
    """A network of vectors whose codebooks are some of the vectors and of what they leave."""
    options = {"num_codewords": 16, "similarity": similarity}
    quantizer = ProductQuantization(2, **options)
    if num_levels > 1:
        quantizer = ResidualProductQuantization(num_levels, 2, **options)
    network = ProductQuantizationNetwork(None, quantizer, None, rotation=True)
    network.build((None, 8))
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    network.rotation.set_weights([turn])
    chosen = np.random.default_rng(3).normal(size=quantizer.codebooks.shape)
    quantizer.codebooks.assign(chosen * (0.5 if similarity == "cosine" else 1.0))
    if quantizer.code_length > 2 * num_levels:
        quantizer.norms.assign(np.random.default_rng(4).uniform(0, 3, quantizer.norms.shape))
    return network


def compare(network, queries, codes, similarity):
    """Scores `[queries, items]` by the formula, from reconstructions alone."""
    quantizer = network.quantizer
    queries = np.asarray(network.embed(queries), np.float64)
    items = np.asarray(quantizer.decode(codes), np.float64)
    products = queries @ items.T
    if similarity == "dot":
        return products
    lengths = np.square(items).sum(axis=1)
    if quantizer.code_length > quantizer.num_levels * quantizer.num_subspaces:
        places = np.arange(quantizer.code_length)
        lengths = np.asarray(quantizer.norms)[places, codes].sum(axis=1)
    distances = np.square(queries).sum(axis=1)[:, None] - 2 * products + lengths
    return -distances if similarity == "l2" else 1 - distances / 2


def index_of(network, path, **options):
    build_index(network, VectorSet(VECTORS, metadata={"colour": COLOURS}), path, **options)
    return CodeIndex.load(path)


def assert_best(found, scores):
    for ids, values, row in zip(found.ids, found.scores, scores, strict=True):
        np.testing.assert_allclose(values, np.sort(row)[::-1][: len(values)], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(row[ids], values, rtol=1e-4, atol=1e-4)


LISTS = {"partition": 12, "num_probes": 300}
CASES = [
    ("l2", 2, LISTS),
    ("cosine", 2, {}),
    ("dot", 2, {}),
    pytest.param("l2", 1, {}, marks=pytest.mark.slow),
    pytest.param("cosine", 1, LISTS, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("similarity", "num_levels", "lists"), CASES)
def test_a_search_ranks_by_the_formula_of_the_similarity(tmp_path, similarity, num_levels, lists):
    network = make_network(similarity, num_levels)
    index = index_of(network, tmp_path / "index")
    scores = compare(network, QUERIES, index.codes, similarity)
    searcher = Searcher(network, index, top_k=TOP_K, tag_columns=["colour"], **lists)
    assert_best(searcher(QUERIES), scores)
    embeddings = np.asarray(network.embed(QUERIES))
    assert_best(searcher.search_by_embedding(embeddings), scores)
    # Raw vectors have the width of embeddings here, and are others.
    assert not np.allclose(searcher.search_by_embedding(QUERIES).scores, searcher(QUERIES).scores)
    inputs = {
        "embeddings": QUERIES,
        "allow_tags": np.full((9, 1), b"colour=2", object),
        "deny_tags": np.full((9, 1), b"", object),
    }
    filtered = searcher.run("search_with_filters", inputs)
    assert (filtered["ids"] % 3 == 2).all()
    best = np.sort(scores[:, 2::3], axis=1)[:, ::-1][:, :TOP_K]
    np.testing.assert_allclose(filtered["scores"], best, rtol=1e-4, atol=1e-4)


def test_raw_vectors_and_embeddings_of_one_width_are_told_apart_by_the_signature(tmp_path):
    network = ProductQuantizationNetwork(None, ProductQuantization(2, 16), embedding_dim=8)
    network.build((None, 8))
    searcher = Searcher(network, index_of(network, tmp_path / "index"), top_k=TOP_K)
    embeddings = searcher.run("embed", {"embeddings": QUERIES})["embeddings"]
    assert embeddings.shape == QUERIES.shape
    found = searcher(QUERIES)
    of_embeddings = searcher.search_by_embedding(embeddings)
    np.testing.assert_allclose(of_embeddings.scores, found.scores, rtol=1e-5, atol=1e-5)
    assert not np.allclose(searcher.search_by_embedding(QUERIES).scores, found.scores, atol=1e-2)


@pytest.mark.parametrize(
    ("similarity", "lists"),
    [("cosine", LISTS), pytest.param("dot", {}, marks=pytest.mark.slow)],
)
def test_embeddings_rank_the_candidates_of_the_codes(tmp_path, similarity, lists):
    network = make_network(similarity)
    index = index_of(network, tmp_path / "index", keep_embeddings=True)
    embeddings = np.asarray(network.embed(VECTORS))
    items = embeddings.astype(np.float16).astype(np.float64)
    queries = np.asarray(network.embed(QUERIES), np.float64)
    scores = queries @ items.T
    if similarity != "dot":
        scores = -np.square(queries[:, None] - items).sum(axis=2)
    if similarity == "cosine":
        scores = 1 + scores / 2
    options = {"top_k": TOP_K, "rerank": True, "tag_columns": ["colour"], **lists}
    searcher = Searcher(network, index, num_candidates=300, **options)
    assert_best(searcher(QUERIES), scores)
    search, rows = searcher.search_by_embedding, queries.astype(np.float32)
    alone = [search(row[np.newaxis]).scores[0] for row in rows]
    np.testing.assert_array_equal(search(rows).scores, alone)
    inputs = {
        "embeddings": QUERIES,
        "allow_tags": np.full((9, 1), b"colour=2", object),
        "deny_tags": np.full((9, 1), b"", object),
    }
    filtered = searcher.run("search_with_filters", inputs)
    best = np.sort(scores[:, 2::3], axis=1)[:, ::-1][:, :TOP_K]
    np.testing.assert_allclose(filtered["scores"], best, rtol=1e-4, atol=1e-4)
    # The item's own embedding is the query; all that is near by codes is looked at.
    by_id, by_vector = searcher.search_by_id([4]), searcher(VECTORS[4:5])
    others = [id_ for id_ in by_vector.ids[0] if id_ != 4]
    np.testing.assert_array_equal(by_id.ids[0][: len(others)], others)
    # What the codes do not find stays unfound.
    few = Searcher(network, index, num_candidates=8, **{**options, "top_k": 8})(QUERIES)
    by_codes = Searcher(network, index, top_k=8, **lists)(QUERIES)
    np.testing.assert_array_equal(np.sort(few.ids), np.sort(by_codes.ids))
    np.testing.assert_allclose(few.scores, np.take_along_axis(scores, few.ids, 1), atol=1e-4)


def test_a_saved_model_of_vectors_answers_as_the_searcher_does(tmp_path):
    network = make_network("l2")
    index = index_of(network, tmp_path / "index", keep_embeddings=True)
    searcher = Searcher(network, index, top_k=TOP_K, rerank=True)
    save_searcher(searcher, tmp_path / "model" / "1")
    loaded = load_searcher(tmp_path / "model" / "1")
    assert loaded.items.kind == "vectors"
    np.testing.assert_array_equal(loaded(QUERIES).ids, searcher(QUERIES).ids)
    assert loaded.manifest["storage"]["reranked_by"] == "embeddings"
    # Codes are stored in whole groups of 32 items, with the number of items.
    codes = (2 * 320 + 8) / 300
    sizes = {"codes": codes, "embeddings": 16, "ids": 0}
    assert loaded.manifest["bytes_per_item"] == pytest.approx(sizes)


def test_embeddings_that_are_missing_or_do_not_fit_are_refused(tmp_path):
    network = make_network("dot")
    index = index_of(network, tmp_path / "index", keep_embeddings=True)
    column = index.metadata["embedding"]
    for metadata, message in (
        ({}, "rerank needs the embeddings of the items"),
        ({"embedding": pa.array([None, *column.to_pylist()[1:]], column.type)}, "1 items without"),
        ({"embedding": VECTORS[:, :4]}, "8 numbers of float16.*fixed_size_binary.8"),
    ):
        with pytest.raises(ValueError, match=message):
            Searcher(
                network, CodeIndex(index.layout, index.codes, index.ids, metadata), rerank=True
            )
    with pytest.raises(ValueError, match=r"fit float16, at most 65,504. Received: 70000"):
        CodeIndex(index.layout, index.codes[:1], [1], {"embedding": np.full((1, 8), 7e4)})


def test_vectors_that_cannot_be_compared_are_refused_by_name(tmp_path):
    network = make_network("l2", 2)
    index = index_of(network, tmp_path / "index")
    searcher = Searcher(network, index, top_k=TOP_K)
    with pytest.raises(ValueError, match="finite.*1 of 9 rows, the first at row 4"):
        searcher(np.where(np.arange(9)[:, None] == 4, np.nan, QUERIES))
    with pytest.raises(ValueError, match=r"vectors must have shape \[batch, 8\].*\(9, 5\)"):
        searcher(QUERIES[:, :5])
    with pytest.raises(tf.errors.InvalidArgumentError, match="vectors with a direction"):
        network = make_network("cosine")
        Searcher(network, index_of(network, tmp_path / "other"))(np.zeros((1, 8)))
