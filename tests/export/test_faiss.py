"""Laws of the bridge to FAISS: both find the same items with the same scores, either way."""

import re
import sys
from functools import partial

import numpy as np
import pytest

from tests.export.test_vectors import compare, make_network
from tests.export.tiny import make_codes
from tests.export.tiny import make_network as make_image_network
from tests.export.tiny_levels import make_clip_network, make_level_network
from tfpqn.export import Searcher, from_faiss, read_faiss_ids, to_faiss
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import ProductQuantization
from tfpqn.models import ProductQuantizationNetwork

faiss = pytest.importorskip("faiss", reason="needs FAISS: pip install 'tfpqn[faiss]'")

RNG = np.random.default_rng(5)
DIM = 8
VECTORS = RNG.normal(size=(400, DIM)).astype(np.float32)
QUERIES = RNG.normal(size=(9, DIM)).astype(np.float32)
TOP_K = 6
# What FAISS' distances and products are as scores.
SCORES = {
    "l2": lambda values: -values,
    "cosine": lambda values: 1 - values / 2,
    "dot": lambda values: values,
    "subspace": lambda values: values,
}


def index_of(network, codes, ids=None):
    ids = 3 * np.arange(len(codes)) + 1 if ids is None else ids
    return CodeIndex(network_layout(network), codes, ids)


def rank(scores, ids, top_k=TOP_K):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return ids[order], np.take_along_axis(scores, order, axis=1)


def sum_tables(network, embeddings, codes):
    """Scores `[queries, items]`, entry by entry."""
    tables = np.asarray(network.quantizer.lookup_tables(embeddings))
    return tables[:, np.arange(codes.shape[1]), codes.astype(int)].sum(axis=2)


def assert_finds(faiss_index, queries, scores, ids, similarity):
    """The best by these scores, in any order where they are equal."""
    values, found = faiss_index.search(queries, TOP_K)
    _, best = rank(scores, ids)
    np.testing.assert_allclose(SCORES[similarity](values), best, rtol=1e-4, atol=1e-4)
    position_of = {int(one): position for position, one in enumerate(ids)}
    for row, own, expected in zip(scores, found, best, strict=True):
        assert len(set(own)) == TOP_K
        np.testing.assert_allclose(row[[position_of[one] for one in own]], expected, atol=1e-4)


def through_file(faiss_index, tmp_path):
    faiss.write_index(faiss_index, str(tmp_path / "index.faiss"))
    return faiss.read_index(str(tmp_path / "index.faiss"))


@pytest.mark.parametrize("similarity", ["l2", "cosine", "dot"])
@pytest.mark.parametrize("num_levels", [1, 2])
def test_a_written_index_takes_raw_vectors_and_scores_as_the_network_does(
    tmp_path, similarity, num_levels
):
    network = make_network(similarity, num_levels)
    codes = np.asarray(network.encode(VECTORS))
    index = index_of(network, codes)
    scores = compare(network, QUERIES, codes, similarity)
    written = to_faiss(network, index)
    assert_finds(written, QUERIES, scores, index.ids, similarity)
    assert_finds(through_file(written, tmp_path), QUERIES, scores, index.ids, similarity)
    kind = "IndexPQ" if num_levels == 1 else "IndexProductResidualQuantizer"
    inner = faiss.downcast_index(faiss.downcast_index(written.index).index)
    assert type(inner).__name__ == kind


SLOW_LISTED = [pytest.param(*case, marks=pytest.mark.slow) for case in [("dot", 1), ("cosine", 2)]]
LISTED = [("l2", 1), *SLOW_LISTED]
MAKERS = {
    "images": make_image_network,
    "levels of images": make_level_network,
    "clips": partial(make_clip_network, levels=2),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_of_images_and_clips_a_written_index_takes_embeddings(kind):
    network = MAKERS[kind]()
    codes = make_codes(network)
    names = np.array([f"item {number}" for number in range(len(codes))], object)
    index = index_of(network, codes, names)
    embeddings = RNG.normal(size=(5, network.quantizer.embedding_dim)).astype(np.float32)
    embeddings = np.asarray(network.quantizer.normalize(embeddings))
    scores = sum_tables(network, embeddings, codes)
    # Names stay in the index: FAISS answers by positions.
    assert_finds(to_faiss(network, index), embeddings, scores, np.arange(len(codes)), "subspace")


@pytest.mark.parametrize(("similarity", "num_levels"), LISTED)
def test_lists_and_probes_of_a_searcher_stand_in_the_written_index(
    tmp_path, similarity, num_levels
):
    network = make_network(similarity, num_levels)
    names = None if num_levels == 2 else np.array([f"é{n}" for n in range(400)], object)
    codes = np.asarray(network.encode(VECTORS))
    if num_levels == 1:
        # Each code stands four times, so the lists are those of distinct codes.
        codes = codes[np.arange(400) % 100]
    index = index_of(network, codes, names)
    searcher = Searcher(network, index, top_k=TOP_K, partition=16, num_probes=3)
    written = through_file(to_faiss(network, index, searcher=searcher), tmp_path)
    values, found = written.search(QUERIES, TOP_K)
    expected = searcher(QUERIES)
    np.testing.assert_allclose(SCORES[similarity](values), expected.scores, atol=1e-4)
    all_scores = compare(network, QUERIES, index.codes, similarity)
    positions = found if names is not None else np.searchsorted(index.ids, found)
    own = np.take_along_axis(all_scores, positions, axis=1)
    np.testing.assert_allclose(own, expected.scores, atol=1e-4)


def test_a_linear_layer_goes_into_the_written_index_and_comes_back():
    network = ProductQuantizationNetwork(
        None, ProductQuantization(2, 16, similarity="l2"), embedding_dim=6, center_embeddings=False
    )
    network.build((None, DIM))
    network.embedding.set_weights([RNG.normal(size=(DIM, 6)), RNG.normal(size=6)])
    codes = np.asarray(network.encode(VECTORS))
    written = to_faiss(network, index_of(network, codes))
    scores = sum_tables(network, network.embed(QUERIES), codes)
    assert_finds(written, QUERIES, scores, 3 * np.arange(400) + 1, "l2")
    again, _ = from_faiss(written)
    np.testing.assert_allclose(again.embed(QUERIES), network.embed(QUERIES), rtol=1e-5, atol=1e-5)


def test_a_large_offset_leaves_the_written_matrix_exact():
    network = ProductQuantizationNetwork(
        None, ProductQuantization(2, 16, similarity="l2"), embedding_dim=6, center_embeddings=False
    )
    network.build((None, DIM))
    matrix = RNG.normal(size=(DIM, 6)).astype(np.float32)
    network.embedding.set_weights([matrix, np.full(6, 1e6)])
    index = index_of(network, np.zeros((3, 2), int))
    again, _ = from_faiss(to_faiss(network, index))
    np.testing.assert_array_equal(again.embedding.get_weights()[0], matrix)


def train(name, metric=faiss.METRIC_L2):
    """A FAISS index of the vectors, trained in a round."""
    made = faiss.index_factory(DIM, name, metric)
    inner = made
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexIDMap):
        inner = faiss.downcast_index(inner.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.by_residual, inner.nprobe = False, inner.nlist
    for coder in ("pq", "rq"):
        if hasattr(inner, coder):
            getattr(inner, coder).cp.niter = 1
    made.train(VECTORS)
    made.add_with_ids(VECTORS, IDS) if "IDMap" in name else made.add(VECTORS)
    return made


IDS = 7 * np.arange(400) + 2
L2, PRODUCT = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
FAISS_KINDS = {
    "PQ4x4": ("l2", L2),
    "PQ2x5": ("dot", PRODUCT),
    "PCA4,PQ2x4": ("l2", L2),
    "IDMap,RR8,L2norm,PQ4x4": ("cosine", L2),
    "IVF4,PQ4x4": ("l2", L2),
    "RQ3x4": ("dot", PRODUCT),
    "PRQ2x2x4": ("dot", PRODUCT),
    "RQ2x8_Nqint8": ("l2", L2),
    "RQ2x8_Ncqint8": ("l2", L2),
}


@pytest.mark.parametrize("name", FAISS_KINDS)
def test_a_network_from_faiss_scores_the_same_codes_as_faiss_does(name):
    similarity, metric = FAISS_KINDS[name]
    given = train(name, metric)
    network, codes = from_faiss(given)
    ids = read_faiss_ids(given)
    assert network.quantizer.similarity == similarity
    np.testing.assert_array_equal(ids, IDS if "IDMap" in name else np.arange(400))
    scores = sum_tables(network, network.embed(QUERIES), index_of(network, codes, ids).codes)
    assert_finds(given, QUERIES, scores, ids, similarity)


def test_lengths_that_faiss_keeps_as_floats_are_rounded_to_the_codewords():
    given = train("RQ2x4")
    network, codes = from_faiss(given)
    assert codes.shape == (400, 3)
    scores = sum_tables(network, network.embed(QUERIES), codes)
    exact = -np.square(QUERIES[:, None] - given.reconstruct_n(0, 400)).sum(axis=2)
    assert (scores - exact).std() < 0.1 * exact.std()
    # Such an index without items is a start.
    given.reset()
    network, codes = from_faiss(given)
    assert codes.shape == (0, 3)
    network.quantizer.require_usable_codebooks()


@pytest.mark.parametrize("num_levels", [1, 2])
def test_a_collection_that_goes_to_faiss_and_back_is_the_same(num_levels):
    network = make_network("dot", num_levels)
    index = index_of(network, np.asarray(network.encode(VECTORS)))
    written = to_faiss(network, index)
    again, codes = from_faiss(written)
    np.testing.assert_array_equal(codes, index.codes)
    np.testing.assert_array_equal(read_faiss_ids(written), index.ids)
    np.testing.assert_array_equal(again.embed(QUERIES), network.embed(QUERIES))
    np.testing.assert_array_equal(again.encode(VECTORS), codes)
    # What FAISS adds it codes alike.
    written.add_with_ids(QUERIES, np.arange(10_000, 10_009))
    np.testing.assert_array_equal(from_faiss(written)[1][400:], network.encode(QUERIES))
    assert read_faiss_ids(written)[-1] == 10_008


@pytest.mark.parametrize("num_subspaces", [2, 3])
def test_fast_scan_holds_the_same_codes_and_finds_nearly_the_same(num_subspaces):
    dim = 6 * num_subspaces
    vectors = RNG.normal(size=(100, dim)).astype(np.float32)
    quantizer = ProductQuantization(num_subspaces, 16, similarity="l2")
    network = ProductQuantizationNetwork(None, quantizer, None)
    network.build((None, dim))
    codes = np.asarray(network.encode(vectors))
    index = index_of(network, codes)
    written = to_faiss(network, index, fast_scan=True)
    _, again = from_faiss(written)
    np.testing.assert_array_equal(again, codes)
    _, found = written.search(vectors[:20], TOP_K)
    best, _ = rank(sum_tables(network, vectors[:20], codes), index.ids)
    assert np.mean([np.isin(*pair).mean() for pair in zip(found, best, strict=True)]) > 0.7


def test_what_has_no_counterpart_is_refused_by_name():
    with pytest.raises(TypeError, match="faiss.Index. Received: <class 'str'>"):
        from_faiss("vectors.faiss")
    with pytest.raises(ValueError, match="trained IndexPQ, .* Received: IndexFlat"):
        from_faiss(faiss.IndexFlatL2(DIM))
    with pytest.raises(ValueError, match="Received: IndexPQ, untrained"):
        from_faiss(faiss.IndexPQ(DIM, 2, 4))
    given = train("IVF4,PQ2x4")
    given.by_residual = True
    with pytest.raises(ValueError, match="by_residual=False"):
        from_faiss(given)
    with pytest.raises(ValueError, match="the latter without a normalisation"):
        from_faiss(train("L2norm,PQ2x4", PRODUCT))
    with pytest.raises(ValueError, match="after all transforms that change lengths"):
        from_faiss(train("L2norm,PCA4,PQ2x4"))

    given = train("PQ2x4")
    centroids = faiss.vector_to_array(given.pq.centroids)
    faiss.copy_array_to_vector(centroids + np.float32(1000), given.pq.centroids)
    with pytest.raises(ValueError, match=r"around 0, .*mean of length 2\.83e\+03 and a spread"):
        from_faiss(given)
    centroids[:3] = np.nan
    faiss.copy_array_to_vector(centroids, given.pq.centroids)
    with pytest.raises(ValueError, match="must be finite.* in 1 of 32 codewords"):
        from_faiss(given)

    network = make_network("l2")
    index = index_of(network, np.asarray(network.encode(VECTORS)))
    with pytest.raises(TypeError, match="network must be a Prod.* Received: .*CodeIndex"):
        to_faiss(index, network)
    with pytest.raises(TypeError, match="searcher must be a Searcher. Received: .*str"):
        to_faiss(network, index, searcher="models/vectors/1")
    with pytest.raises(ValueError, match="searcher must have lists"):
        to_faiss(network, index, searcher=Searcher(network, index))
    other = index_of(network, index.codes, np.arange(400))
    lists = Searcher(network, other, partition=4, num_probes=1)
    with pytest.raises(ValueError, match="must hold the items of index"):
        to_faiss(network, index, searcher=lists)
    network = make_network("l2", 2)
    index = index_of(network, np.asarray(network.encode(VECTORS)))
    with pytest.raises(ValueError, match="fast_scan needs 16 codewords, one level"):
        to_faiss(network, index, fast_scan=True)
    quantizer = ProductQuantization(2, 12, similarity="l2")
    network = ProductQuantizationNetwork(None, quantizer, None)
    network.build((None, DIM))
    with pytest.raises(ValueError, match="power of two. Received: num_codewords=12"):
        to_faiss(network, index_of(network, np.asarray(network.encode(VECTORS))))


def test_without_faiss_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'tfpqn[faiss]'")):
        from_faiss(None)
