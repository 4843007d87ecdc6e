"""Laws of base and delta: what they find together is what one export of all items finds."""

import numpy as np
import pyarrow as pa
import pytest

from tests.export.test_vectors import make_network as make_vector_network
from tests.export.tiny import make_codes, make_ids, make_images, make_network
from tfpqn.export import Searcher, SearchResult
from tfpqn.export.client.shards.hiding import leave_out
from tfpqn.export.client.shards.merging import drop_hidden, merge_results
from tfpqn.export.client.shards.shard_servers import Versions
from tfpqn.export.interface.delta import DESCRIBE_DELTA, Delta
from tfpqn.export.interface.shard import Shard
from tfpqn.index import CodeIndex, network_layout

NUM_ITEMS, TOP_K = 40, 6
OPTIONS = {"top_k": TOP_K, "tag_columns": ["colour"], "label_column": "colour", "known_tags": None}
TAGS = {"allow_tags": b"colour=green", "deny_tags": b"colour=unheard"}
COLOURS = np.array(["red", "blue"] * (NUM_ITEMS // 2))


def index_of(network, ids, positions, codes, colours=COLOURS):
    metadata = {"colour": pa.array(colours[positions].tolist(), pa.string())}
    return CodeIndex(network_layout(network), codes[positions], ids[positions], metadata)


class Collection:
    """A base that holds the first 30 items, of which some have gone and some have changed since;
    and a newer one, which holds some of the items of the delta as well."""

    def __init__(self, network, **options):
        ids, codes = make_ids("string", NUM_ITEMS), make_codes(network, NUM_ITEMS)
        gone, changed, added = np.arange(3, 8), np.arange(12, 20), np.arange(30, NUM_ITEMS)
        former = codes.copy()
        # Near to each query: without exclusions they would take all places.
        former[gone] = former[changed] = np.median(codes, axis=0)
        later = np.concatenate([added, changed])
        kept = np.setdiff1d(np.arange(30), np.concatenate([gone, changed]))
        colours = COLOURS.copy()
        colours[changed] = "green"
        hidden = ids[np.concatenate([gone, changed])].tolist()

        def search(index, **others):
            return Searcher(network, index, **{**OPTIONS, **others})

        self.hidden = hidden
        own = {"shard": Shard(0, 1, "first"), **options}
        self.bases = [
            search(index_of(network, ids, np.arange(30), former), **own),
            search(index_of(network, ids, np.setdiff1d(np.arange(34), gone), former), **own),
        ]
        delta = Delta(("first", "second"), tuple(hidden))
        self.delta = search(index_of(network, ids, later, codes, colours), delta=delta)
        whole = np.concatenate([kept, later])
        self.whole = search(index_of(network, ids, whole, codes, colours))

    def find(self, base, name, values):
        others = SearchResult.from_outputs(base.run(*leave_out(name, values, self.hidden)))
        found = drop_hidden(others, self.hidden, values.get("k"))
        own = SearchResult.from_outputs(self.delta.run(name, values))
        return merge_results([found, own], Versions(1, 1, tuple(self.hidden)))


def inputs_of(network, whole):
    """Inputs of each signature that finds items, by its name."""
    spec = network.items
    items = make_images(5) if spec.has_pixels else np.random.default_rng(1).normal(size=(5, 8))
    queries = {spec.input_name: spec.pack(items)}
    tags = {name: np.full((5, 1), tag, object) for name, tag in TAGS.items()}
    return {
        "search": queries,
        "search_by_embedding": whole.run("embed", queries),
        "search_k": {**queries, "k": np.int32(20)},
        "search_with_exclusions": {
            **queries,
            "exclude_ids": whole.run("search", queries)["ids"][:, :3],
        },
        "search_with_filters": {**queries, **tags},
    }


def assert_found_as_in_one(collection, base, name, values):
    expected = SearchResult.from_outputs(collection.whole.run(name, values))
    found = collection.find(base, name, values)
    np.testing.assert_array_equal(found.ids, expected.ids, name)
    np.testing.assert_array_equal(found.scores, expected.scores, name)
    np.testing.assert_array_equal(found.labels, expected.labels, name)


def test_base_and_delta_find_what_one_export_of_all_finds():
    network = make_vector_network("cosine")
    collection = Collection(network)
    values = {"embeddings": np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)}
    former = SearchResult.from_outputs(collection.bases[0].run("search", values))
    assert set(former.ids.flat) & set(collection.hidden), "the base alone would find them"
    for base in collection.bases:
        assert_found_as_in_one(collection, base, "search", values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "images", "lists"])
def test_base_and_delta_find_by_every_signature_what_one_export_of_all_finds(kind):
    network = make_network() if kind == "images" else make_vector_network("cosine")
    lists = {"partition": 4, "num_probes": NUM_ITEMS} if kind == "lists" else {}
    collection = Collection(network, **lists)
    for name, values in inputs_of(network, collection.whole).items():
        for base in collection.bases:
            assert_found_as_in_one(collection, base, name, values)


def test_a_delta_without_items_hides_and_finds_nothing():
    network = make_vector_network("cosine")
    empty = np.zeros(0, np.int64)
    ids, codes = make_ids("string", 4), make_codes(network, 4)
    index = index_of(network, ids, empty, codes)
    delta = Searcher(network, index, **OPTIONS, delta=Delta(("one", "two"), ("a",)))
    found = SearchResult.from_outputs(delta.run("search", {"embeddings": np.ones((2, 8))}))
    assert found.num_found.tolist() == [0, 0]
    described = delta.run(DESCRIBE_DELTA, {"rows": np.zeros(2, np.int32)})
    assert described["bases"].tolist() == [[b"one", b"two"]] * 2
    assert described["hidden_ids"].tolist() == [[b"a"]] * 2
