"""Ids, tags and rows: packed unharmed, or refused with the input's name."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfpqn.export.client.inputs import pack_lists, split_rows
from tfpqn.export.interface.signatures import TensorInfo

INTEGERS = TensorInfo("int64", (None, None))
TEXTS = TensorInfo("string", (None, None))


@pytest.mark.parametrize("info", [INTEGERS, TEXTS], ids=["integers", "texts"])
@hypothesis.given(data=st.data())
def test_lists_of_any_length_are_packed_exactly_and_filled_up(info, data):
    values = st.text() if info is TEXTS else st.integers(-(2**63), 2**63 - 1)
    lists = data.draw(st.lists(st.lists(values, max_size=40), min_size=1, max_size=5))
    packed = pack_lists("exclude_ids", lists, len(lists), info)
    assert packed.shape[1] in (16, 64)
    for row, ids in zip(packed.tolist(), lists, strict=True):
        given = [id_.encode() for id_ in ids] if info is TEXTS else ids
        assert row == given + [b"" if info is TEXTS else -1] * (len(row) - len(ids))


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (None, [[], []]),
        (["a"], [["a"], ["a"]]),
        ([["a"], []], [["a"], []]),
        (np.array([["a"], ["b"]]), [["a"], ["b"]]),
    ],
)
def test_one_list_is_for_all_items(lists, expected):
    packed = pack_lists("exclude_ids", lists, 2, TEXTS)
    assert [[id_.decode() for id_ in row if id_] for row in packed] == expected


@pytest.mark.parametrize(
    ("lists", "info", "error", "words"),
    [
        ("abc", TEXTS, TypeError, "must be a list. Received: one str"),
        (5, INTEGERS, TypeError, "must be a list. Received: one int"),
        ([["a"]], TEXTS, ValueError, "each of the 2 items. Received: 1 entries"),
        ([["a"], "b"], TEXTS, ValueError, "Received: 2 entries, 1 of them lists"),
        ([1.0], INTEGERS, TypeError, "whole numbers. Received: float"),
        ([True], INTEGERS, TypeError, "whole numbers. Received: bool"),
        ([2**63], INTEGERS, ValueError, "fit int64"),
        ([b"a"], TEXTS, TypeError, "strings. Received: bytes"),
        (["\ud800"], TEXTS, ValueError, "Unicode"),
        (list(range(1025)), INTEGERS, ValueError, "at most 1024 for each item. Received: 1025"),
    ],
)
def test_wrong_lists_are_refused_by_name(lists, info, error, words):
    with pytest.raises(error, match=f"exclude_ids.*{words}"):
        pack_lists("exclude_ids", lists, 2, info)


@hypothesis.given(
    st.lists(st.binary(max_size=30), max_size=12), st.integers(1, 5), st.integers(1, 60)
)
def test_parts_are_whole_in_order_and_within_their_bounds(rows, chunk_size, max_bytes):
    images = np.fromiter(rows, object, len(rows))
    inputs = {"images": images, "k": np.array(3, np.int32), "ids": np.arange(len(rows))}
    parts = list(split_rows(inputs, chunk_size, max_bytes))
    assert [image for part in parts for image in part["images"]] == rows
    assert [id_ for part in parts for id_ in part["ids"]] == list(range(len(rows)))
    for part in parts:
        assert part["k"] == 3
        size = sum(map(len, part["images"])) + part["ids"].nbytes
        assert len(part["images"]) == 1 or (len(part["images"]) <= chunk_size and size <= max_bytes)
