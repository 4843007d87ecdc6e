"""However a collection is stored, a search finds what a stable sort of all scores finds."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpqn.export.interface.bounds import MAX_K
from tfpqn.export.search import lists as list_search
from tfpqn.export.search import scan, scoring
from tfpqn.export.search.filters import TagFilter, make_tag_sets
from tfpqn.export.search.neighbours import FLOOR_SCORE, NO_POSITION
from tfpqn.export.search.storages import coded_rows
from tfpqn.export.search.storages.distinct_codes import DistinctCodes, group_codes
from tfpqn.export.search.storages.flat_codes import FlatCodes
from tfpqn.export.search.storages.partition import build_partition
from tfpqn.export.search.storages.partitioned_codes import PartitionedCodes
from tfpqn.export.search.storages.reranking import Reranked
from tfpqn.export.search.storages.storage import Queries
from tfpqn.export.server.model_version import MAX_ROWS

NUM_CODEWORDS = 4
DIM = 6


def make_vectors(rng, code_length, num_values):
    """What codewords add; few values make equal scores, exact in float32."""
    shape = (code_length, NUM_CODEWORDS, DIM)
    return rng.integers(-num_values, num_values + 1, shape).astype(np.float32)


def make_queries(rng, vectors, num_queries):
    embeddings = rng.integers(-2, 3, (num_queries, DIM)).astype(np.float32)
    tables = np.einsum("qd,pkd->pqk", embeddings, vectors)
    return Queries(tf.constant(embeddings), tf.constant(tables))


def make_storage(kind, vectors, codes, num_lists, tag_sets=None):
    if kind == "flat":
        return FlatCodes(codes)
    if kind.startswith("distinct"):
        groups = group_codes(codes, tag_sets)
        inner = kind.removeprefix("distinct").strip() or "flat"
        return DistinctCodes(groups, make_storage(inner, vectors, groups.codes, num_lists))
    partition = build_partition(vectors, codes, min(num_lists, len(codes)))
    num_probes = 1 if kind == "one list" else partition.num_lists
    return PartitionedCodes(codes, partition, num_probes)


def rank(scores, top_k):
    """Positions and scores of the best, by a stable sort."""
    positions = np.full((len(scores), top_k), NO_POSITION)
    best = np.full((len(scores), top_k), FLOOR_SCORE, np.float32)
    for row, own in enumerate(scores):
        order = np.argsort(-own, kind="stable")[:top_k]
        order = order[own[order] > FLOOR_SCORE]
        positions[row, : len(order)] = order
        best[row, : len(order)] = own[order]
    return positions, best


def score(queries, codes):
    tables = queries.tables.numpy()
    return sum(tables[p][:, codes[:, p]] for p in range(codes.shape[1]))


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["flat", "distinct", "all lists", "one list", "distinct all lists"]),
    seed=st.integers(0, 2**32 - 1),
    num_items=st.one_of(st.integers(1, 60), st.just(350)),
    # A flat search scores some queries one by one, and many together.
    num_queries=st.sampled_from([0, 1, 2, 33]),
    code_length=st.integers(1, 4),
    num_values=st.sampled_from([1, 100]),
    top_k=st.sampled_from([1, 3, 70]),
    num_lists=st.integers(1, 12),
    rows_at_once=st.sampled_from([32, 64, 2**16]),
    many_lists=st.sampled_from([1, 1024]),
)
def test_every_storage_finds_what_a_stable_sort_finds(
    kind,
    seed,
    num_items,
    num_queries,
    code_length,
    num_values,
    top_k,
    num_lists,
    rows_at_once,
    many_lists,
):
    rng = np.random.default_rng(seed)
    vectors = make_vectors(rng, code_length, num_values)
    codes = rng.integers(0, NUM_CODEWORDS, (num_items, code_length)).astype(np.uint8)
    queries = make_queries(rng, vectors, num_queries)
    if kind == "one list":  # what is not there, is looked for in the others
        top_k = num_items
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_search, "ROWS_PER_CHUNK", rows_at_once)
        patch.setattr(list_search, "MANY_LISTS", many_lists)
        patch.setattr(list_search, "LISTS_PER_GROUP", 4)
        patch.setattr(scan, "ROWS_PER_BLOCK", rows_at_once)
        patch.setattr(scan, "ROWS_TOGETHER", rows_at_once)
        patch.setattr(scan, "MANY_ITEMS", many_lists)
        found = make_storage(kind, vectors, codes, num_lists).find(queries, top_k)
    positions, scores = rank(score(queries, codes), top_k)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


@settings(max_examples=5, deadline=None)
@given(
    kind=st.sampled_from(["flat", "flat", "distinct", "all lists"]),
    seed=st.integers(0, 2**32 - 1),
    # Of more than nine rows TensorFlow adds some first.
    code_length=st.sampled_from([11, 6]),
    top_k=st.sampled_from([1, 20, 70]),
    rows_per_block=st.sampled_from([128, 1000]),
)
def test_the_better_of_near_ties_is_found_however_many_queries_come_together(
    kind, seed, code_length, top_k, rows_per_block
):
    """All positions have one table, so the permutations of a code differ by rounding alone."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=(1, NUM_CODEWORDS, DIM)), code_length, axis=0)
    vectors = vectors.astype(np.float32)
    bases = rng.integers(0, NUM_CODEWORDS, (3, code_length))
    codes = rng.permuted(np.repeat(bases, 121, axis=0), axis=1).astype(np.uint8)
    embeddings = rng.normal(size=(33, DIM)).astype(np.float32)
    tables = np.repeat((embeddings @ vectors[0].T)[np.newaxis], code_length, axis=0)
    positions, scores = rank(score(Queries(embeddings, tf.constant(tables)), codes), top_k)
    with pytest.MonkeyPatch.context() as patch:
        # Small groups, of which few are left over, in several blocks.
        patch.setattr(scan, "ROWS_PER_GROUP", 2)
        patch.setattr(scoring, "ROWS_PER_GROUP", 2)
        patch.setattr(scan, "ROWS_PER_BLOCK", rows_per_block)
        patch.setattr(scan, "ROWS_TOGETHER", 64)
        patch.setattr(scan, "MANY_ITEMS", 1)
        patch.setattr(scan, "GROUPS_PER_PROMISING", 1)
        patch.setattr(scan, "SPARE_GROUPS", 4)
        storage = make_storage(kind, vectors, codes, 5)
        for size in (1, 2, 33):
            queries = Queries(tf.constant(embeddings[:size]), tf.constant(tables[:, :size]))
            found = storage.find(queries, top_k)
            np.testing.assert_array_equal(found.positions, positions[:size])
            np.testing.assert_array_equal(found.scores, scores[:size])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distinct", "all lists", "distinct all lists"])
def test_the_largest_request_finds_what_a_stable_sort_finds(kind):
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, 4, 100)
    distinct = np.stack(np.unravel_index(np.arange(200), [NUM_CODEWORDS] * 4), axis=1)
    codes = rng.permutation(np.repeat(distinct, [5, 7] * 100, axis=0)).astype(np.uint8)
    queries = make_queries(rng, vectors, MAX_ROWS)
    found = make_storage(kind, vectors, codes, 12).find(queries, MAX_K)
    positions, scores = rank(score(queries, codes), MAX_K)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["flat", "all lists", "one list", "distinct", "distinct all lists"]),
    seed=st.integers(0, 2**32 - 1),
    num_items=st.integers(1, 60),
    num_queries=st.sampled_from([0, 1, 2, 7]),
    share=st.sampled_from([0.0, 0.1, 0.9]),
    has_one_filter=st.booleans(),
    top_k=st.sampled_from([1, 5, tf.constant(5)]),
    largest_share=st.sampled_from([0.0, 0.3, 1.0]),
    rows_at_once=st.sampled_from([10, 1000]),
)
def test_every_storage_finds_the_best_of_those_that_are_admitted(
    kind, seed, num_items, num_queries, share, has_one_filter, top_k, largest_share, rows_at_once
):
    rng = np.random.default_rng(seed)
    if kind == "one list":  # what is not there, is looked for in the others
        top_k = num_items
    vectors = make_vectors(rng, 2, 1)
    codes = rng.integers(0, NUM_CODEWORDS, (num_items, 2)).astype(np.uint8)
    is_admitted = rng.random((num_items, num_queries)) < share
    if has_one_filter:
        is_admitted[:] = is_admitted[:, :1]
    # An item has the numbers of the queries that admit it.
    table = pa.table({"q": [np.flatnonzero(row).tolist() for row in is_admitted]})
    table = table.cast(pa.schema({"q": pa.list_(pa.int64())}))
    tag_sets = make_tag_sets(table, ["q"], [f"q={query}" for query in range(num_queries)])
    sets = tag_sets.set_of_item
    storage = make_storage(kind, vectors, codes, 7, sets)
    if kind.startswith("distinct"):
        tag_sets = tag_sets._replace(set_of_item=group_codes(codes, sets).tag_sets)
    tags = tf.constant(
        [[f"q={query}"] for query in range(num_queries)], tf.string, [num_queries, 1]
    )
    admits = TagFilter(tag_sets, order=storage.order).admit(tags, tf.zeros_like(tags)[:, :0])
    queries = make_queries(rng, vectors, num_queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coded_rows, "LARGEST_SHARE", largest_share)
        patch.setattr(coded_rows, "ROWS_PER_CHUNK", rows_at_once)
        patch.setattr(scan, "MANY_ITEMS", rows_at_once)
        patch.setattr(scan, "ROWS_PER_BLOCK", 32)
        found = storage.find(queries._replace(admits=admits), top_k)
    expected = rank(np.where(is_admitted.T, score(queries, codes), FLOOR_SCORE), int(top_k))
    np.testing.assert_array_equal(found.positions, expected[0])
    np.testing.assert_array_equal(found.scores, expected[1])


@pytest.mark.parametrize("lists_at_once", [1, 3, 100])
def test_over_lists_a_filter_looks_at_as_many_more_lists_as_it_hides_items(
    lists_at_once, monkeypatch
):
    monkeypatch.setattr(coded_rows, "LARGEST_SHARE", 0.0)
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, 4, 100)
    codes = rng.integers(0, NUM_CODEWORDS, (300, 4)).astype(np.uint8)
    partition = build_partition(vectors, codes, 12)
    storage = PartitionedCodes(codes, partition, num_probes=2)
    queries = make_queries(rng, vectors, 5)
    monkeypatch.setattr(
        list_search, "ROWS_PER_CHUNK", lists_at_once * storage.longest * list_search.ROWS_PER_BLOCK
    )
    thirds = np.arange(300) % 3
    tag_sets = make_tag_sets(pa.table({"third": thirds}), ["third"])
    tags = tf.constant([["third=0"], ["third=1"], ["third=2"], [""], [""]])
    admits = TagFilter(tag_sets, order=storage.order).admit(tags, tags[:, :0])
    found = storage.find(queries._replace(admits=admits), 4)
    list_scores = queries.embeddings.numpy() @ partition.rank_vectors.T
    ranks = np.argsort(np.argsort(-list_scores, axis=1, kind="stable"), axis=1)
    is_near = ranks[:, partition.list_of_item] < np.array([[6], [6], [6], [2], [2]])
    is_admitted = (thirds == np.arange(5)[:, np.newaxis]) | (np.arange(5) > 2)[:, np.newaxis]
    scores = np.where(is_near & is_admitted, score(queries, codes), FLOOR_SCORE)
    np.testing.assert_array_equal(found.positions, rank(scores, 4)[0])


@pytest.mark.parametrize("has_stages", [False, True])
@pytest.mark.parametrize("kind", ["flat", "distinct", "all lists"])
def test_no_queries_find_nothing(kind, has_stages):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, NUM_CODEWORDS, (50, 2)).astype(np.uint8)
    storage = make_storage(kind, make_vectors(rng, 2, 1), codes, 7)
    if has_stages:
        storage = Reranked(storage, np.zeros((50, DIM), np.float16), None, 5)
    shapes = tf.TensorSpec([None, DIM]), tf.TensorSpec([2, None, NUM_CODEWORDS])

    @tf.function(input_signature=[*shapes, tf.TensorSpec([], tf.int32)])
    def find(embeddings, tables, top_k):
        return storage.find(Queries(embeddings, tables), top_k)

    found = find(tf.zeros([0, DIM]), tf.zeros([2, 0, NUM_CODEWORDS]), 3)
    assert [values.shape.as_list() for values in found] == [[0, 3], [0, 3]]


@pytest.mark.parametrize("kind", ["flat", "distinct all lists", "all lists"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("code_length", [1, 3, 8])
def test_every_storage_keeps_the_codes(kind, dtype, code_length):
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, code_length, 100)
    codes = rng.integers(0, NUM_CODEWORDS, (30, code_length)).astype(dtype)
    storage = make_storage(kind, vectors, codes, 5)
    positions = np.array([29, 0, 7, 7], np.int32)
    np.testing.assert_array_equal(storage.codes_at(tf.constant(positions)), codes[positions])
    queries = make_queries(rng, vectors, 2)
    expected, _ = rank(score(queries, codes), 4)
    np.testing.assert_array_equal(storage.find(queries, 4).positions, expected)


@pytest.mark.parametrize("margin", [None, 0.0, 1.0])
def test_probing_few_lists_finds_the_best_items_of_these(monkeypatch, margin):
    monkeypatch.setattr(list_search, "ROWS_PER_BLOCK", 2)
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, 3, 100)
    codes = rng.integers(0, NUM_CODEWORDS, (300, 3)).astype(np.uint8)
    queries = make_queries(rng, vectors, 9)
    partition = build_partition(vectors, codes, 20)
    storage = PartitionedCodes(codes, partition, num_probes=5, margin=margin)
    scores = score(queries, codes)
    looked_at = []
    for embedding in queries.embeddings.numpy():
        list_scores = partition.directions @ embedding
        nearest = np.argsort(-list_scores, kind="stable")[:5]
        gaps = list_scores[nearest[0]] - list_scores[nearest]
        # Lists are not passed over before there are enough blocks.
        blocks = np.cumsum(-(-partition.lengths[nearest] // 2))
        is_short = np.concatenate([[0], blocks[:-1]]) < 5 // 2 + 5 + 1
        nearest = nearest[(gaps <= (np.inf if margin is None else margin)) | is_short]
        lists = [partition.order[slice(*partition.splits[n : n + 2])] for n in nearest]
        looked_at.append(np.concatenate(lists))
    for size in (1, 9):
        found = storage.find(queries.of(tf.range(size)), 5)
        for row, items in enumerate(looked_at[:size]):
            own = np.full(300, FLOOR_SCORE, np.float32)
            own[items] = scores[row, items]
            np.testing.assert_array_equal(found.positions[row], rank(own[np.newaxis], 5)[0][0])


def test_more_items_than_candidates_may_be_wanted():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, NUM_CODEWORDS, (30, 2)).astype(np.uint8)
    vectors = make_vectors(rng, 2, 100)
    queries = make_queries(rng, vectors, 3)
    embeddings = vectors[[0, 1], codes].sum(axis=1).astype(np.float16)
    storage = Reranked(FlatCodes(codes), embeddings, None, num_candidates=30)
    found = storage.find(queries, tf.constant(40))
    np.testing.assert_array_equal(found.positions, rank(score(queries, codes), 40)[0])
