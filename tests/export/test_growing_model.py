"""Laws of a model that grows: whatever is killed when, each base and each delta that goes with it
are the index as it was at one moment."""

import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.export.test_vectors import make_network
from tfpqn.export.ingest import growing_model
from tfpqn.export.ingest.growing_model import MAX_HIDDEN, GrowingModel
from tfpqn.export.model.shards import shard_paths
from tfpqn.index import CodeIndex, network_layout, remove_from_index, update_index

NETWORK = make_network("cosine")
LAYOUT = network_layout(NETWORK)
NUM_SHARDS = 2


class Killed(Exception):
    """The process ends here."""


def contents_of(index):
    return dict(zip(index.ids.tolist(), map(tuple, index.codes.tolist()), strict=True))


def make_index(items):
    """Items by id; a number stands for a code."""
    codes = np.array([[code] * LAYOUT.code_length for code in items.values()], np.uint8)
    ids = np.array(list(items), np.int64)
    return CodeIndex(LAYOUT, codes.reshape(-1, LAYOUT.code_length), ids)


def make_index_of_other_columns(path):
    index = make_index({1: 1})
    CodeIndex(index.layout, index.codes, index.ids, {"label": [3]}).save(path)


class Light:
    """A searcher that only remembers what it is of."""

    def __init__(self, network, index, **options):
        self.items, self.delta = contents_of(index), options["delta"]


def write_manifest(path, **fields):
    path.mkdir(parents=True)
    manifest = {"format_version": 1, "files": {}, **fields}
    (path / "manifest.json").write_text(json.dumps(manifest))


def save_light(searcher, path, **figures):
    write_manifest(path, delta=searcher.delta._asdict(), items=list(searcher.items.items()))
    return path


def save_light_shards(network, index, path, num_shards, *, export_id, killed_after=None, **options):
    quantizer = {"codebook_fingerprint": LAYOUT.fingerprint, "num_levels": 1}
    facts = {"quantizer": quantizer, "top_k": 10, "tag_columns": [], "calibration": None}
    for number, place in enumerate(shard_paths(path, num_shards)):
        if number == killed_after:
            raise Killed
        write_manifest(place, shard={"number": number, "export_id": export_id}, **facts)


@pytest.fixture
def light(monkeypatch):
    monkeypatch.setattr(growing_model, "Searcher", Light)
    monkeypatch.setattr(growing_model, "save_searcher", save_light)
    monkeypatch.setattr(growing_model, "save_shards", save_light_shards)


def read(path):
    return json.loads((path / "manifest.json").read_text())


def assert_together(base, delta, expected):
    """Base, but for the hidden, and delta hold each item once, or twice the same."""
    found = contents_of(CodeIndex.load(base.state))
    kept = {id_: code for id_, code in found.items() if id_ not in delta["delta"]["hidden"]}
    items = {id_: tuple(code) for id_, code in delta["items"]}
    assert all(items[id_] == code for id_, code in kept.items() if id_ in items)
    assert kept | items == expected


class Machine(RuleBasedStateMachine):
    """Somebody changes the index, while a model is exported and killed."""

    folder: Any = None

    def __init__(self):
        super().__init__()
        self.place = type(self).folder.mktemp("growing")
        self.index = self.place / "index"
        make_index({1: 1, 2: 2, 3: 3}).save(self.index)
        self.pending, self.last = None, 0
        self.seen = {}  # What the index held when a delta was written.
        self.restart()

    @rule()
    def restart(self):
        self.model = GrowingModel(NETWORK, self.index, self.place / "birds", num_shards=NUM_SHARDS)
        self.pending = None

    @rule(items=st.dictionaries(st.integers(1, 9), st.integers(0, 9), max_size=3))
    def update(self, items):
        if items:
            update_index(self.index, make_index(items), rows_per_part=2)

    @rule(data=st.data())
    def remove(self, data):
        known = sorted(contents_of(CodeIndex.load(self.index)))
        gone = data.draw(st.sets(st.sampled_from(known), max_size=2)) if known else set()
        remove_from_index(self.index, np.array(sorted(gone), np.int64), rows_per_part=2)

    @rule()
    def publish(self):
        path = self.model.publish_delta(self.pending)
        if path is not None:
            self.seen[int(path.name)] = contents_of(CodeIndex.load(self.index))
        assert self.model.publish_delta(self.pending) is None, "nothing is new"

    @rule(publishes=st.booleans())
    def begin(self, publishes):
        if self.pending is None and CodeIndex.load(self.index).num_items >= NUM_SHARDS:
            self.pending = self.model.begin_base()
            assert self.pending.number > self.last, "a server may have loaded what was removed"
            self.last = self.pending.number
            if publishes:
                self.publish()
            else:
                self.restart()

    @rule(killed_after=st.sampled_from([None, 0, 1]))
    def export(self, killed_after):
        if self.pending is None:
            return
        self.model._options["killed_after"] = killed_after
        try:
            self.model.export_base(self.pending)
        except Killed:
            self.restart()
        self.pending = None

    @rule()
    def tidy(self):
        self.model.tidy(self.pending)

    @invariant()
    def bases_and_deltas_go_together(self):
        bases = self.model.list_bases()
        deltas = {n: read(self.model.folders.delta / str(n)) for n in self.numbers()}
        for base in bases:
            going = [n for n in deltas if base.export_id in deltas[n]["delta"]["bases"]]
            assert max(deltas) in going, "a server may be at any base, and have the newest delta"
            for number in going:
                assert_together(base, deltas[number], self.seen[number])

    def numbers(self):
        folder = self.model.folders.delta
        return [int(path.name) for path in folder.iterdir()] if folder.is_dir() else []


def test_after_any_kill_each_base_and_delta_are_the_index_of_one_moment(light, tmp_path_factory):
    Machine.folder = tmp_path_factory
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=8, stateful_step_count=20, deadline=None)
    )


def test_a_base_that_servers_may_have_is_kept_and_what_a_kill_left_is_removed(light, tmp_path):
    index = tmp_path / "index"
    make_index({1: 1, 2: 2}).save(index)
    model = GrowingModel(NETWORK, index, tmp_path / "birds", num_shards=NUM_SHARDS)
    for number in range(1, 5):
        base = model.begin_base()
        model.publish_delta(base)
        model._options["killed_after"] = 1 if number == 3 else None
        if number == 3:
            with pytest.raises(Killed):
                model.export_base(base)
        else:
            model.export_base(base)
            model.tidy()
    assert [base.number for base in model.list_bases()] == [2, 4]
    assert sorted(path.name for path in (tmp_path / "birds-shard-0-of-2").iterdir()) == ["2", "4"]
    assert sorted(path.name for path in (tmp_path / "birds-states").iterdir()) == ["2", "4"]
    make_index_of_other_columns(tmp_path / "other")
    rebuilt = GrowingModel(NETWORK, tmp_path / "other", tmp_path / "birds", num_shards=NUM_SHARDS)
    assert not rebuilt.list_bases()
    other = GrowingModel(NETWORK, index, tmp_path / "birds", num_shards=NUM_SHARDS, top_k=3)
    assert not other.list_bases(), "answers of other sizes cannot be merged"
    other.tidy()
    assert len(model.list_bases()) == 2


def test_where_a_delta_would_hide_too_much_it_waits_for_the_next_base(light, tmp_path):
    index = tmp_path / "index"
    make_index(dict.fromkeys(range(1000), 1)).save(index)
    model = GrowingModel(NETWORK, index, tmp_path / "birds")
    first = model.begin_base()
    model.publish_delta(first)
    model.export_base(first)
    remove_from_index(index, np.arange(MAX_HIDDEN + 1))
    assert model.publish_delta() is None
    assert model.count_changes() == (0, MAX_HIDDEN + 1)
    second = model.begin_base()
    model.export_base(second)
    delta = read(model.publish_delta())
    assert delta["delta"]["bases"] == [second.export_id]
    assert_together(second, delta, contents_of(CodeIndex.load(index)))
