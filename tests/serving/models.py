"""Two tiny exported models, made once for the tests of server and client alike."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_ITEMS,
    NUM_SUBSPACES,
    make_codes,
    make_ids,
    make_images,
    make_network,
    make_searcher,
)
from tests.export.tiny_levels import encode_clips, make_clip_network, make_clips
from tfpqn.export import SavedSearcher, load_searcher, save_searcher
from tfpqn.index import CodeIndex, network_layout

LABELS = [number % 4 for number in range(NUM_ITEMS)]
ITEMS = {"images": make_images(5), "clips": encode_clips(make_clips(4, 4, 3, 2, 4))}


class Model(NamedTuple):
    """An exported model: its folder, its only version, its ids and a reader of its own."""

    folder: Path
    version: Path
    ids: Any
    searcher: SavedSearcher

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def signatures(self) -> dict[str, Any]:
        return self.searcher.manifest["signatures"]


def export_models(parent: Path) -> dict[str, Model]:
    """`images` has int64 ids and tags, `clips` string ids and lists."""
    models = {}
    for name, id_type, network, options in (
        ("images", "int64", make_network(), {"tag_columns": ["label"]}),
        ("clips", "string", make_clip_network(), {"partition": 6, "num_probes": 2}),
    ):
        codes, ids = make_codes(network), make_ids(id_type)
        index = CodeIndex(network_layout(network), codes, ids, {"label": LABELS})
        folder = parent / name
        version = folder / "1"
        save_searcher(make_searcher(network, index, **options), version)
        models[name] = Model(folder, version, ids, load_searcher(version))
    return models


def make_inputs(model: Model, signature: str, num_rows: int, seed: int = 0) -> dict[str, Any]:
    """Valid inputs of any signature, by its description in the manifest."""
    rng = np.random.default_rng(seed)
    known = np.asarray(model.ids)[rng.integers(0, NUM_ITEMS, (num_rows, 3))]
    if known.dtype == object:
        known = np.array([id_.encode() for id_ in known.flat], object).reshape(known.shape)
    clips = encode_clips(make_clips(*[2] * num_rows, seed=seed))
    makers = {
        "images": lambda: np.array(make_images(num_rows, seed), object),
        "frames": lambda: np.array(clips, object),
        "embeddings": lambda: rng.normal(0, 5, (num_rows, EMBEDDING_DIM)).astype(np.float32),
        "codes": lambda: rng.integers(0, 16, (num_rows, NUM_SUBSPACES), dtype=np.int32),
        "item_ids": lambda: known[:, 0],
        "exclude_ids": lambda: known,
        "allow_tags": lambda: np.full((num_rows, 1), b"label=1", object),
        "deny_tags": lambda: np.full((num_rows, 1), b"", object),
        "k": lambda: np.array(3, np.int32),
        "num_probes": lambda: np.array(4, np.int32),
    }
    return {name: makers[name]() for name in model.signatures[signature]["inputs"]}
