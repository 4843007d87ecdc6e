"""Inverted lists: what is parted, how it is chosen, and what an exported model says of it."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export.tiny import (
    NUM_ITEMS,
    Reference,
    assert_found,
    make_codes,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_searcher,
)
from tfpqn.export import StatusError, load_searcher, save_searcher
from tfpqn.export.search.storages import partition as partition_module
from tfpqn.export.search.storages import partition_tuning
from tfpqn.export.search.storages.choice import make_storage
from tfpqn.export.search.storages.partition import (
    MAX_LENGTH_RATIO,
    build_partition,
)
from tfpqn.index import CodeIndex, network_layout


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def codes(network):
    return make_codes(network, 500).astype(np.uint8)


@pytest.fixture(scope="module")
def searcher(network):
    return make_searcher(network)


@pytest.fixture(scope="module")
def vectors(searcher):
    return searcher.codebooks.vectors()


def test_k_means_sees_at_least_as_many_items_as_there_are_lists(codes, vectors, monkeypatch):
    monkeypatch.setattr(partition_module, "MAX_POINTS", 8)
    assert build_partition(vectors, codes, 12).num_lists > 8


def test_each_item_is_in_one_list_near_its_centroid(network, codes, vectors):
    weights = np.arange(len(codes)) % 5 + 1
    partition = build_partition(vectors, codes, 12, weights=weights)
    assert sorted(partition.order) == list(range(len(codes)))
    decoded = Reference(network).decode(codes)
    for number in range(partition.num_lists):
        members = partition.order[slice(*partition.splits[number : number + 2])]
        assert 0 < len(members) <= MAX_LENGTH_RATIO * len(codes) / 12 + 1
        centroid = np.average(decoded[members], axis=0, weights=weights[members])
        np.testing.assert_allclose(partition.centroids[number], centroid, rtol=0, atol=1e-5)
        assert (np.diff(decoded[members] @ centroid) < 1e-5).all()
        assert (partition.list_of_item[members] == number).all()


def test_the_same_codes_give_the_same_lists(codes, vectors):
    first, second = (build_partition(vectors, codes, 12) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_list_that_would_dominate_is_cut(vectors, codes):
    partition = build_partition(vectors, np.repeat(codes[:2], [990, 10], axis=0), 2)
    assert partition.lengths.max() <= MAX_LENGTH_RATIO * 500
    many = build_partition(vectors, np.concatenate([codes, codes[:1].repeat(5000, axis=0)]), 50)
    assert many.lengths.max() <= MAX_LENGTH_RATIO * 5500 / 40


def test_the_wanted_agreement_is_reached_with_the_fewest_probes(network):
    index = make_index(network, num_items=500)
    queries = make_embeddings(60)
    searcher = make_searcher(
        network, index, partition=20, agreement=0.9, tuning_queries=queries[:40]
    )
    report = searcher.storage.describe()
    assert report["tuned_with"] == "queries"
    assert (report["curve"][-1]["agreement"], report["curve"][-1]["scored"]) == (1, 500)
    enough = [point for point in report["curve"] if point["agreement"] >= 0.9]
    assert report["num_probes"] == enough[0]["num_probes"]
    # Lists that miss the best one by the margin are passed over.
    assert 0.9 <= report["agreement"] <= enough[0]["agreement"] and report["margin"] >= 0
    found, every = (
        s.search_by_embedding(queries[:40]) for s in (searcher, make_searcher(network, index))
    )
    shares = [np.isin(a, b).mean() for a, b in zip(found.ids, every.ids, strict=True)]
    # Few items are more than enough: short lists are not passed over.
    assert report["agreement"] - 0.01 <= np.mean(shares) <= enough[0]["agreement"] + 0.01


@pytest.mark.parametrize("largest_share", [0.01, 0.9])
def test_auto_makes_lists_by_the_number_of_items_where_they_leave_out_enough(
    network, monkeypatch, largest_share
):
    index = make_index(network, num_items=500)
    options = {"partition": "auto", "agreement": 0.9, "tuning_queries": make_embeddings(40)}
    assert make_searcher(network, index, **options).num_lists is None, "so few need none"
    monkeypatch.setattr(partition_tuning, "MIN_ROWS", 100)
    monkeypatch.setattr(partition_tuning, "MAX_SCORED", largest_share)
    report = make_searcher(network, index, **options).storage.describe()
    assert report["kind"] == ("flat" if largest_share < 0.1 else "partitioned")
    # Twice the square root, as a power of two; long lists are cut in two.
    assert 32 <= report["curve"][-1]["num_lists"] < 40
    assert make_searcher(network, index, **options).storage.describe() == report


def test_lists_of_shared_codes_are_tuned_by_items(network):
    codes = make_codes(network, 500).repeat(8, axis=0)
    index = CodeIndex(network_layout(network), codes, np.arange(4000))
    queries = make_embeddings(40)
    lists = make_searcher(network, index, partition=20, agreement=1.0, tuning_queries=queries)
    report = lists.storage.describe()
    assert (report["kind"], report["agreement"]) == ("partitioned distinct", 1)
    found, every = (s.search_by_embedding(queries) for s in (lists, make_searcher(network, index)))
    np.testing.assert_array_equal(found.ids, every.ids)


@pytest.mark.parametrize("items_per_code, kind", [(8, "distinct"), (1, "flat")])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_items_that_share_codes_are_scored_once_a_code(
    items_per_code, kind, is_sorted, monkeypatch
):
    monkeypatch.setattr("tfpqn.export.search.storages.choice.SAMPLE_SIZE", 64)
    codes = np.repeat(np.arange(4000 // items_per_code), items_per_code)
    if not is_sorted:
        codes = np.random.default_rng(0).permutation(codes)
    codes = np.stack([codes % 256, codes // 256], axis=1).astype(np.uint8)
    storage, _ = make_storage(None, codes, None, top_k=1)
    assert storage.describe()["kind"] == kind


def test_the_manifest_tells_the_lists_and_a_search_may_look_at_no_more(network, tmp_path):
    searcher = make_searcher(network, partition=8, num_probes=2)
    path = save_searcher(searcher, tmp_path / "1")
    manifest, loaded = json.loads((path / "manifest.json").read_text()), load_searcher(path)
    lists = {"num_lists": 8, "num_probes": 2}
    assert manifest["storage"] == {"kind": "partitioned", **lists}
    # Code and position of each place in a block, and the list of each item; of each list its
    # direction, and its begin and end.
    size = searcher.storage.positions.numpy().size * (4 + 4) + NUM_ITEMS + 8 * 16 * 4 + 9 * 16
    assert manifest["bytes_per_item"] == {"codes": size / NUM_ITEMS, "ids": 8}
    for num_probes in (0, 9):
        inputs = {"images": make_images(3), "num_probes": np.int32(num_probes)}
        with pytest.raises(StatusError, match=r"num_probes: expected a number in 1 .. 8"):
            loaded.run("search_with_probes", inputs)


def test_ids_that_count_from_0_take_no_memory(network):
    index = CodeIndex(network_layout(network), make_codes(network), np.arange(NUM_ITEMS))
    searcher, embeddings = make_searcher(network, index), make_embeddings(4)
    assert not searcher.ids.variables
    expected = Reference(network).search(embeddings, index)
    assert_found(searcher.search_by_embedding(embeddings), expected)
    by_id = searcher.search_by_id(np.array([59, 0]))
    assert 59 not in by_id.ids[0] and by_id.ids.min() >= 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="item_ids: expected ids of items"):
        searcher.search_by_id(np.array([60]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 3}, "need lists: give partition"),
        ({"agreement": 0.9}, "need lists: give partition"),
        ({"partition": 3, "num_probes": 2, "agreement": 0.9}, "agreement chooses num_probes"),
        ({"partition": "auto", "num_probes": 3}, "num_probes needs a number of lists, as 'auto'"),
        ({"partition": 61}, "partition must be at least 1 and at most 60. Received: partition=61"),
        ({"partition": 3, "agreement": 0}, r"agreement must lie in \(0, 1\]"),
        ({"partition": 3, "num_probes": 0}, "num_probes must be at least 1"),
        ({"num_candidates": 3}, "give rerank as well"),
        ({"partition": 3, "tuning_queries": [[0.0] * 3] * 4}, r"\[queries, 16\].*\(4, 3\)"),
        ({"partition": 3, "tuning_queries": np.full((4, 16), np.inf)}, "must be finite"),
        ({"partition": "many"}, "partition must be"),
    ],
)
def test_options_that_do_not_go_together_are_refused(network, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_searcher(network, **options)
