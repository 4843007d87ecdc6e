"""A zoo of exported models: one of each kind, what it is asked, and what a slow loop answers."""

import functools
from typing import Any, NamedTuple

import numpy as np

from tests.export.native_calls import Call
from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_CODEWORDS,
    NUM_ITEMS,
    TOP_K,
    Reference,
    encode_image,
    make_codes,
    make_embeddings,
    make_ids,
    make_images,
    make_network,
    make_pixels,
    make_searcher,
    rank,
)
from tests.export.tiny_levels import (
    embed_clips,
    encode_clips,
    make_clip_network,
    make_clips,
    make_level_network,
)
from tfpqn.export import Searcher, SearchResult
from tfpqn.index import CodeIndex, network_layout

NETWORKS = {
    "pqn": make_network,
    "rpqn": make_level_network,
    "tpqn": lambda: make_clip_network(levels=2),
}
# How the collection is stored; every way must find the same. Of the last the first level alone.
OPTIONS: dict[str, dict[str, Any]] = {
    "pqn": {},
    "rpqn": {},
    "tpqn": {},
    "pqn in lists": {"partition": 8, "num_probes": NUM_ITEMS},
    # What one list does not have, is looked for in the others.
    "tpqn in lists": {"partition": 5, "num_probes": 1, "num_levels": 1, "top_k": NUM_ITEMS},
}
LENGTHS = (4, 7, 1)
NUM_QUERIES = 3
METRICS = {"mean_average_precision": 0.75, "protocol": "digits"}
THRESHOLD = 0.5
LABELS = [number % 4 for number in range(NUM_ITEMS)]
TAGS = [["odd"] * (n % 2) + ["third"] * (n % 3 == 0) for n in range(NUM_ITEMS)]
# For each query: positions whose ids are excluded, and tags; None fills up.
EXCLUDED = [[0, 5, 9], [None, 59, None], [None, None, None]]
BY_ID = [7, 0, 59]
FILTERS = {
    "all": ([[], [], []], [[], [], []]),
    "label": ([["label=1"], ["label=2", "label=3"], []], [[], [], ["label=0"]]),
    "lists": ([["tags=odd"], ["tags=third", "label=1"], []], [["tags=third"], [], ["tags=odd"]]),
    "none": ([["label=1"], ["tags=odd"], []], [["label=1"], [], []]),
}
KS = (1, NUM_ITEMS, NUM_ITEMS + 4)


class Model(NamedTuple):
    """A network, its collection, its items to search with, their embeddings, and the slow loop."""

    kind: str
    network: Any
    index: CodeIndex
    items: dict[str, Any]
    embeddings: np.ndarray
    slow: Reference

    @property
    def no_id(self) -> Any:
        return "" if self.index.id_type == "string" else -1

    @property
    def code_length(self) -> int:
        return len(self.slow.levels) * self.slow.per_level

    @property
    def top_k(self) -> int:
        return OPTIONS[self.kind].get("top_k", TOP_K)

    @property
    def id_dtype(self) -> Any:
        return object if self.no_id == "" else np.int64


@functools.cache
def make_model(kind: str) -> Model:
    quantizer = kind.split()[0]
    network = NETWORKS[quantizer]()
    ids = make_ids("int64" if quantizer == "pqn" else "string")
    metadata = {"label": LABELS, "tags": TAGS}
    index = CodeIndex(network_layout(network), make_codes(network), ids, metadata)
    slow = Reference(network, OPTIONS[kind].get("num_levels"))
    if quantizer == "tpqn":
        clips = make_clips(*LENGTHS)
        items = network.items.pack(encode_clips(clips))
        return Model(kind, network, index, {"frames": items}, embed_clips(slow, clips), slow)
    embeddings = slow.embed(make_pixels(NUM_QUERIES))
    return Model(kind, network, index, {"images": make_images(NUM_QUERIES)}, embeddings, slow)


@functools.cache
def make_zoo_searcher(kind: str) -> Searcher:
    """The searcher of a kind, with all that it can answer: tags, labels and matches."""
    model = make_model(kind)
    calibration = {
        "score_threshold": THRESHOLD,
        "codebook_fingerprint": model.index.layout.fingerprint,
        "num_levels": len(model.slow.levels),
    }
    options = {"tag_columns": ["label", "tags"], "label_column": "label", **OPTIONS[kind]}
    return make_searcher(model.network, model.index, calibration=calibration, **options)


def make_calls(model: Model) -> dict[Any, Call]:
    ids, no_id, dtype = model.index.ids, model.no_id, model.id_dtype
    excluded = [[no_id if p is None else ids[p] for p in row] for row in EXCLUDED]
    none_excluded = np.zeros((NUM_QUERIES, 0), dtype)
    ks = [k for k in KS if k >= OPTIONS[model.kind].get("top_k", 1)]
    by_embedding = {"embeddings": model.embeddings.astype(np.float32)}
    calls: dict[Any, Call] = {
        "search": Call("search", model.items),
        "default": Call("serving_default", model.items),
        "embedding": Call("search_by_embedding", by_embedding),
        "by id": Call("search_by_id", {"item_ids": np.array(ids[BY_ID])}),
        "excluded": _with(model, "search_with_exclusions", exclude_ids=np.array(excluded, dtype)),
        "none excluded": _with(model, "search_with_exclusions", exclude_ids=none_excluded),
        **{("k", k): _with(model, "search_k", k=np.array(k, np.int32)) for k in ks},
    }
    for name, (allow, deny) in FILTERS.items():
        tags = {"allow_tags": _pad(allow), "deny_tags": _pad(deny)}
        calls["filter", name] = _with(model, "search_with_filters", **tags)
    if "lists" in model.kind:
        num_lists = np.array(OPTIONS[model.kind]["partition"], np.int32)
        calls["all lists"] = _with(model, "search_with_probes", num_probes=num_lists)
    return calls


def make_other_calls(model: Model) -> dict[Any, Call]:
    """What is no search."""
    codes = model.index.codes[:5, : model.code_length].astype(np.int32)
    return {
        "embed": Call("embed", model.items),
        "encode": Call("encode", model.items),
        "decode": Call("decode", {"codes": codes}),
    }


def _with(model: Model, signature: str, **inputs: Any) -> Call:
    return Call(signature, {**model.items, **inputs})


def _pad(rows: list[list[str]]) -> np.ndarray:
    width = max(map(len, rows))
    padded = [row + [""] * (width - len(row)) for row in rows]
    return np.array(padded, object).reshape(NUM_QUERIES, width)


def expect(model: Model, name: Any) -> SearchResult:
    """What the slow loop answers to a call."""
    items, top_k = range(NUM_ITEMS), model.top_k
    if name == "by id":
        scores = model.slow.score(model.slow.decode(model.index.codes[BY_ID]), model.index)
        return rank(scores, model.index, top_k, [[i != p for i in items] for p in BY_ID])
    scores = _score_all(model.kind)
    if name == "excluded":
        admitted = [[item not in row for item in items] for row in EXCLUDED]
        return rank(scores, model.index, top_k, admitted)
    if isinstance(name, str):
        return rank(scores, model.index, top_k)
    kind, detail = name
    if kind == "k":
        return rank(scores, model.index, detail)
    admitted = [
        [
            (not allowed or any(_has_tag(item, tag) for tag in allowed))
            and not any(_has_tag(item, tag) for tag in denied)
            for item in items
        ]
        for allowed, denied in zip(*FILTERS[detail], strict=True)
    ]
    return rank(scores, model.index, top_k, admitted)


@functools.cache
def _score_all(kind: str) -> np.ndarray:
    model = make_model(kind)
    return model.slow.score(model.embeddings, model.index)


def _has_tag(item: int, tag: str) -> bool:
    return tag == f"label={LABELS[item]}" or tag in [f"tags={tag}" for tag in TAGS[item]]


class BadInput(NamedTuple):
    """A call that must be refused as INVALID_ARGUMENT, and the words that the message must hold."""

    call: Call
    words: str


def bad_inputs(model: Model) -> dict[str, BadInput]:
    """Inputs that every way into a model must refuse by their name."""
    (image,), jpeg = make_images(1), encode_image(make_pixels(1)[0], "JPEG")
    no_tags = np.full((NUM_QUERIES, 1), "", object)
    unknown_id = "no such id" if model.no_id == "" else 12
    by_id = np.array([model.index.ids[0], unknown_id], model.id_dtype)
    no_ids = np.full((NUM_QUERIES, 1025), model.no_id, model.id_dtype)
    not_finite = (
        r"embeddings: expected finite values. Received NaN or infinity; rows.*\] \[\[1 \d+\]"
    )
    out_of_range = rf"codes: expected values in 0 .. {NUM_CODEWORDS - 1}. Received from, to:\] "
    known_tags = "expected tags that items of the collection have, such as label=0"

    def items(*values: Any) -> Call:
        return Call("search", {"images": list(values)})

    def embeddings(value: float) -> Call:
        """Two good rows about one that holds the value."""
        rows = make_embeddings(3)
        rows[1, 2] = value
        return Call("search_by_embedding", {"embeddings": rows})

    def codes(value: int, length: int = model.code_length) -> Call:
        rows = np.zeros((2, length), np.int32)
        rows[1, 1] = value
        return Call("decode", {"codes": rows})

    def tags(allow: Any = no_tags, deny: Any = no_tags) -> Call:
        return _with(model, "search_with_filters", allow_tags=allow, deny_tags=deny)

    def number(k: int) -> Call:
        return _with(model, "search_k", k=np.array(k, np.int32))

    def excluded(ids: np.ndarray) -> Call:
        return _with(model, "search_with_exclusions", exclude_ids=ids)

    cases = {
        "unknown id": (Call("search_by_id", {"item_ids": by_id}), "item_ids: expected ids of it"),
        "k 0": (number(0), "k: expected a number in"),
        "k too large": (number(10_001), "k: expected a number in 1 .. 10000"),
        "few rows": (excluded(no_ids[:1, :1]), "exclude_ids: expected as many rows as"),
        "many ids": (excluded(no_ids), "exclude_ids: expected at most 1024"),
        "many tags": (tags(deny=np.full((3, 257), "", object)), "deny_tags: expected at most 256"),
        "unknown tag": (tags(allow=_pad([["label=9"], [], []])), f"allow_tags: {known_tags}"),
        "rows of tags": (tags(allow=no_tags[:2]), "allow_tags: expected as many rows as"),
        "NaN": (embeddings(np.nan), not_finite),
        "large code": (codes(NUM_CODEWORDS), out_of_range + rf"\[0\] \[{NUM_CODEWORDS}\]"),
        "negative code": (codes(-1), out_of_range + r"\[-1\] \[0\]"),
        "short embeddings": (
            Call("search_by_embedding", {"embeddings": make_embeddings(2)[:, :-1]}),
            rf"embeddings: expected width {EMBEDDING_DIM}. Received width:\] \[15\]",
        ),
        "long codes": (codes(0, 9), rf"codes: expected width {model.code_length}.*\[9\]"),
    }
    if "frames" in model.items:
        cases |= _bad_clips(image)
    else:
        no_image = r"images: expected the bytes of a JPEG, PNG.* Received other bytes; rows.*\] "
        cases |= {
            "no image": (items(image, b"no image", image, b""), no_image + r"\[1 3\]"),
            "cut PNG": (items(image[: len(image) // 2]), "images"),
            "cut JPEG": (items(image, jpeg[: len(jpeg) // 2]), "images"),
        }
    return {name: BadInput(*case) for name, case in cases.items()}


def _bad_clips(frame: bytes) -> dict[str, tuple[Call, str]]:
    no_frame = r"frames: expected at least one frame in each clip. Received none; rows.*\] "
    no_image = r"frames: expected the bytes of JPEG, PNG.* Received other bytes; rows.*\] "

    def clips(*rows: list[bytes]) -> Call:
        return Call("search", {"frames": np.array(rows, object).reshape(len(rows), -1)})

    return {
        "no frame": (clips([frame, frame], [b"", b""]), no_frame + r"\[1\]"),
        "no frame in any clip": (clips([], []), no_frame + r"\[0 1\]"),
        "no image": (clips([frame, b""], [frame, b"no image"]), no_image + r"\[1\]"),
        "cut PNG": (clips([frame, frame[: len(frame) // 2]]), "frames"),
    }
