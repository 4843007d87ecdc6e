"""Positions of ids, however they are kept."""

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.export.search import item_ids
from tfpqn.export.search.item_ids import ItemIds


@pytest.mark.parametrize("ids_per_bucket", [1, 8, 10**6])
@pytest.mark.parametrize("kind", ["texts", "shuffled", "ascending", "positions", "nothing"])
def test_an_id_is_found_at_its_position_and_an_unknown_one_nowhere(
    kind, ids_per_bucket, monkeypatch
):
    """With ever so many ids a bucket all of them collide."""
    monkeypatch.setattr(item_ids, "IDS_PER_BUCKET", ids_per_bucket)
    numbers = np.random.default_rng(0).permutation(200) * 3 + np.iinfo(np.int64).min
    ids, unknown = {
        "texts": (np.array([f"ä{n}" for n in range(200)], object), ["", "ä", "ä200", "ä1 "]),
        "shuffled": (numbers, [0, -1, 2**63 - 1, 1 - 2**63]),
        "ascending": (np.sort(numbers), [0, -1, 2**63 - 1, 1 - 2**63]),
        "positions": (np.arange(200), [200, -1, 2**63 - 1, -(2**63)]),
        "nothing": (np.array([], object), ["", "ä1"]),
    }[kind]
    own = ItemIds(ids, "string" if ids.dtype == object else "int64")
    wanted = np.concatenate([ids[::-1], unknown]).astype(ids.dtype)
    expected = [*range(len(ids))[::-1], *[-1] * len(unknown)]
    assert own.positions(tf.constant(wanted, own.dtype)).numpy().tolist() == expected
    found = own.at(tf.constant(expected, tf.int32)).numpy().tolist()
    known = [text.encode() if isinstance(text, str) else text for text in ids[::-1].tolist()]
    assert found == known + [b"" if ids.dtype == object else -1] * len(unknown)
