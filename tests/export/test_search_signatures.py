"""Further ways to search: by id, with exclusions, with filters, for any number of items.

Each way, of each kind of network, through each reader, against a slow loop over all scores.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.export.native_calls import Answers, Call, Refusal, answer, answer_natively
from tests.export.tiny import (
    NUM_ITEMS,
    TOP_K,
    Reference,
    assert_found,
    make_codes,
    make_ids,
    make_images,
    make_network,
    make_pixels,
    make_searcher,
    rank,
)
from tests.export.tiny_levels import (
    LevelReference,
    encode_clips,
    make_clip_network,
    make_clips,
    make_level_network,
)
from tfpqn.export import SearchResult, save_searcher
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader
from tfpqn.index import CodeIndex, network_layout

LOADERS = ("saved model", "session", "C API")
NUM_QUERIES = 3
LABELS = [number % 4 for number in range(NUM_ITEMS)]
TAGS = [["odd"] * (n % 2) + ["third"] * (n % 3 == 0) for n in range(NUM_ITEMS)]
THRESHOLD = 0.5


class Model(NamedTuple):
    """A network of one kind, its collection, its items to search with, and the slow loop."""

    network: Any
    index: CodeIndex
    items: dict[str, Any]
    embeddings: np.ndarray
    slow: Any

    @property
    def no_id(self) -> Any:
        return "" if self.index.id_type == "string" else -1


def make_model(kind: str) -> Model:
    kind = kind.split()[0]
    networks = {"pqn": make_network, "rpqn": make_level_network, "tpqn": make_clip_network}
    network = networks[kind]()
    ids = make_ids("string" if kind == "rpqn" else "int64")
    metadata = {"label": LABELS, "tags": TAGS}
    index = CodeIndex(network_layout(network), make_codes(network), ids, metadata)
    if kind == "tpqn":
        slow, clips = LevelReference(network), make_clips(*[4] * NUM_QUERIES)
        return Model(network, index, {"frames": encode_clips(clips)}, slow.embed_clips(clips), slow)
    slow = Reference(network) if kind == "pqn" else LevelReference(network)
    embeddings = slow.embed(make_pixels(NUM_QUERIES))
    return Model(network, index, {"images": make_images(NUM_QUERIES)}, embeddings, slow)


# Of each query: ids by position, filters; None fills up.
EXCLUDED = [[0, 5, 9], [None, 59, None], [None, None, None]]
FILTERS = {
    "all": ([[], [], []], [[], [], []]),
    "label": ([["label=1"], ["label=2", "label=3"], []], [[], [], ["label=0"]]),
    "lists": ([["tags=odd"], ["tags=third", "label=1"], []], [["tags=third"], [], ["tags=odd"]]),
    "few": ([["tags=third"], [], []], [["tags=odd", "label=0"], [], []]),
    "none": ([["label=1"], ["tags=odd"], []], [["label=1"], [], []]),
}
KS = (1, 5, NUM_ITEMS, NUM_ITEMS + 4)


def pad(rows: list[list[Any]], filler: Any) -> list[list[Any]]:
    width = max(map(len, rows))
    return [row + [filler] * (width - len(row)) for row in rows]


def make_calls(model: Model) -> dict[Any, Call]:
    ids, no_id = model.index.ids, model.no_id
    excluded = [[no_id if p is None else ids[p] for p in row] for row in EXCLUDED]
    dtype = object if no_id == "" else np.int64
    calls: dict[Any, Call] = {
        "by id": Call("search_by_id", {"item_ids": np.array(ids[[7, 0, 59]])}),
        "excluded": Call(
            "search_with_exclusions", {**model.items, "exclude_ids": np.array(excluded, dtype)}
        ),
        "none excluded": Call(
            "search_with_exclusions",
            {**model.items, "exclude_ids": np.zeros((NUM_QUERIES, 0), dtype)},
        ),
    }
    calls["search"] = Call("search", model.items)
    calls["default"] = Call("serving_default", model.items)
    calls["embedding"] = Call(
        "search_by_embedding", {"embeddings": model.embeddings.astype(np.float32)}
    )
    calls["embed"] = Call("embed", model.items)
    calls["encode"] = Call("encode", model.items)
    calls["decode"] = Call("decode", {"codes": model.index.codes[:5].astype(np.int32)})
    for k in KS:
        calls["k", k] = Call("search_k", {**model.items, "k": np.array(k, np.int32)})
    for name, (allowed, denied) in FILTERS.items():
        tags = {
            "allow_tags": np.array(pad(allowed, ""), object).reshape(NUM_QUERIES, -1),
            "deny_tags": np.array(pad(denied, ""), object).reshape(NUM_QUERIES, -1),
        }
        calls["filter", name] = Call("search_with_filters", {**model.items, **tags})
    for name, (signature, inputs, _) in bad_inputs(model).items():
        calls["bad", name] = Call(signature, inputs)
    return calls


def bad_inputs(model: Model) -> dict[str, tuple[str, dict[str, Any], str]]:
    unknown = "no such id" if model.index.id_type == "string" else 12
    dtype = object if model.no_id == "" else np.int64
    lists = {"allow_tags": np.full((3, 1), "", object), "deny_tags": np.full((3, 1), "", object)}
    by_id = np.array([model.index.ids[0], unknown], dtype)
    one_row = np.array([[model.no_id]], dtype)
    unknown_tag = np.array([["label=1"], ["label=9"], [""]], object)
    many = np.full((NUM_QUERIES, 1025), model.no_id, dtype)
    return {
        "unknown id": ("search_by_id", {"item_ids": by_id}, "item_ids: expected ids of items"),
        "no id": ("search_by_id", {"item_ids": one_row[0]}, "item_ids: expected ids of items"),
        "k 0": ("search_k", {**model.items, "k": np.array(0, np.int32)}, "k: expected a number in"),
        "k too large": (
            "search_k",
            {**model.items, "k": np.array(10_001, np.int32)},
            "k: expected a number in 1 .. 10000",
        ),
        "too few rows": (
            "search_with_exclusions",
            {**model.items, "exclude_ids": one_row},
            "exclude_ids: expected as many rows as",
        ),
        "too many ids": (
            "search_with_exclusions",
            {**model.items, "exclude_ids": many},
            "exclude_ids: expected at most 1024",
        ),
        "too many tags": (
            "search_with_filters",
            {**model.items, **lists, "deny_tags": np.full((3, 257), "", object)},
            "deny_tags: expected at most 256",
        ),
        "unknown tag": (
            "search_with_filters",
            {**model.items, **lists, "allow_tags": unknown_tag},
            "allow_tags: expected tags that items of the collection have, such as label=0",
        ),
        "unknown column": (
            "search_with_filters",
            {**model.items, **lists, "deny_tags": np.full((3, 1), "colour=red", object)},
            "deny_tags: expected tags that items of the collection have, such as label=0",
        ),
        "rows of tags": (
            "search_with_filters",
            {**model.items, **lists, "allow_tags": np.full((2, 1), "", object)},
            "allow_tags: expected as many rows as",
        ),
    }


def has_tag(item: int, tag: str) -> bool:
    return tag == f"label={LABELS[item]}" or tag in [f"tags={tag}" for tag in TAGS[item]]


def expect(model: Model, name: Any) -> Any:
    """What the slow loop finds."""
    items = range(NUM_ITEMS)
    if name == "by id":
        places = [7, 0, 59]
        scores = model.slow.score(model.slow.decode(model.index.codes[places]), model.index)
        admitted = [[item != place for item in items] for place in places]
        return rank(scores, model.index, TOP_K, admitted)
    scores = model.slow.score(model.embeddings, model.index)
    if name == "excluded":
        admitted = [[item not in row for item in items] for row in EXCLUDED]
        return rank(scores, model.index, TOP_K, admitted)
    if name in ("none excluded", "search", "default", "embedding"):
        return rank(scores, model.index, TOP_K)
    kind, detail = name
    if kind == "k":
        return rank(scores, model.index, detail)
    admitted = [
        [
            (not allowed or any(has_tag(item, tag) for tag in allowed))
            and not any(has_tag(item, tag) for tag in denied)
            for item in items
        ]
        for allowed, denied in zip(*FILTERS[detail], strict=True)
    ]
    return rank(scores, model.index, TOP_K, admitted)


# How the collection is stored, by kind; every way must find the same.
OPTIONS: dict[str, dict[str, Any]] = {
    "pqn in lists": {"partition": 8, "exact": True},
    "rpqn by levels": {"first_levels": 1, "num_candidates": NUM_ITEMS},
    "tpqn in lists": {"partition": 5, "num_probes": 5},
}
# Each kind is exported and loaded three times, which takes its time.
SLOW_KINDS = ("rpqn", "tpqn", "pqn in lists", "rpqn by levels", "tpqn in lists")
KINDS = ("pqn", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_KINDS))
NAMES = [
    "search",
    "default",
    "embedding",
    "by id",
    "excluded",
    "none excluded",
    *(("k", k) for k in KS),
    *(("filter", name) for name in FILTERS),
]


@pytest.fixture(scope="module")
def models() -> Callable[[str], Model]:
    return functools.cache(make_model)


@pytest.fixture(scope="module")
def answers(models, tmp_path_factory) -> Callable[[str], dict[str, Answers]]:
    """Answers to `make_calls` of a kind by loader."""

    @functools.cache
    def answers_of(kind: str) -> dict[str, Answers]:
        model, folder = models(kind), tmp_path_factory.mktemp("models")
        calibration = {
            "score_threshold": THRESHOLD,
            "codebook_fingerprint": model.index.layout.fingerprint,
            "num_levels": model.network.quantizer.num_levels,
        }
        searcher = make_searcher(
            model.network,
            model.index,
            tag_columns=["label", "tags"],
            label_column="label",
            calibration=calibration,
            **OPTIONS.get(kind, {}),
        )
        path = save_searcher(searcher, folder / kind / "1")
        calls = make_calls(model)
        found = {"saved model": answer(SavedModelLoader(path), calls)}
        with SessionLoader(path) as session:
            found["session"] = answer(session, calls)
        found["C API"] = answer_natively({str(path): calls}, folder)[str(path)]
        return found

    return answers_of


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES, ids=str)
def test_every_reader_finds_what_a_loop_over_all_scores_finds(answers, models, kind, loader, name):
    outputs = answers(kind)[loader].results[name]
    found = SearchResult.from_outputs(outputs)
    assert_found(found, expect(models(kind), name))
    label_of = dict(zip(models(kind).index.ids, map(str, LABELS), strict=True))
    assert found.labels.tolist() == [[label_of.get(id_, "") for id_ in row] for row in found.ids]
    if name == "by id":
        assert found.matches is None
        return
    # Scores near the threshold may round to either side; there are none.
    assert np.abs(found.scores - THRESHOLD).min() > 1e-5
    np.testing.assert_array_equal(found.matches, found.scores >= THRESHOLD)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_embeds_and_codes_as_a_loop_over_the_weights_does(
    answers, models, kind, loader
):
    model, results = models(kind), answers(kind)[loader].results
    codes = results["encode"]["codes"]
    for name, received, expected in (
        ("embed", results["embed"]["embeddings"], model.embeddings),
        ("decode", results["decode"]["embeddings"], model.slow.decode(model.index.codes[:5])),
    ):
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5, err_msg=name)
    if kind.startswith("pqn"):
        np.testing.assert_array_equal(codes, model.slow.encode(make_pixels(NUM_QUERIES)))
    else:
        np.testing.assert_array_equal(codes, model.slow.encode(model.embeddings))


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_refuses_bad_input_by_its_name(answers, models, kind, loader):
    for name, (_, _, words) in bad_inputs(models(kind)).items():
        refusal = answers(kind)[loader].results["bad", name]
        assert isinstance(refusal, Refusal), f"{name} was not refused: {refusal}"
        assert refusal.code == "INVALID_ARGUMENT"
        assert words in refusal.message


def test_an_item_is_found_by_its_id_as_by_its_reconstruction(models):
    model = models("pqn")
    searcher = make_searcher(model.network, model.index, top_k=TOP_K)
    larger = make_searcher(model.network, model.index, top_k=TOP_K + 1)
    decoded = model.network.quantizer.decode(model.index.codes[:5])
    by_id = searcher.search_by_id(model.index.ids[:5])
    by_embedding = larger.search_by_embedding(np.asarray(decoded))
    for row, id_ in enumerate(model.index.ids[:5]):
        others = [other for other in by_embedding.ids[row] if other != id_][:TOP_K]
        assert by_id.ids[row].tolist() == others


def test_columns_that_are_not_there_are_refused(models):
    model = models("pqn")
    with pytest.raises(ValueError, match=r"tag_columns must name .*'label', 'tags'.*'colour'"):
        make_searcher(model.network, model.index, tag_columns=["colour"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook_fingerprint": "ab"}, "network with codebook_fingerprint=.*Received: 'ab'"),
        ({"num_levels": 2}, "network with num_levels=1. Received: 2"),
        ({"score_threshold": float("nan")}, "score_threshold must be finite. Received: nan"),
    ],
)
def test_the_calibration_of_another_network_is_refused(models, change, message):
    model = models("pqn")
    calibration = {
        "score_threshold": THRESHOLD,
        "codebook_fingerprint": model.index.layout.fingerprint,
        "num_levels": 1,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        make_searcher(model.network, model.index, calibration=calibration)
