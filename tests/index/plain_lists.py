"""A collection as the plainest of things, a list of items, and an index of it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout

LAYOUT = CodeLayout(code_length=2, num_codewords=256, fingerprint="ab" * 32)
COLUMN_TYPES = {"label": pa.int64(), "tags": pa.list_(pa.string())}

ID_KINDS = {
    "int64": st.sampled_from([0, 1, 2, 7, 2**40, -(2**63)]),
    "string": st.sampled_from(["a", "b", "é", "a b", "A", "🐦"]),
}


class Item(NamedTuple):
    """One item of a collection."""

    id: Any
    code: tuple[int, int]
    label: int | None
    tags: list[str] | None


def items_with(ids: st.SearchStrategy[Any], max_size: int = 5) -> st.SearchStrategy[list[Item]]:
    """Lists of items of which no two have the same id."""
    item = st.builds(
        Item,
        ids,
        st.tuples(st.integers(0, 255), st.integers(0, 255)),
        st.none() | st.integers(0, 3),
        st.none() | st.lists(st.sampled_from(["x", "y"]), max_size=2),
    )
    return st.lists(item, unique_by=lambda item: item.id, max_size=max_size)


def codes_of(items: list[Item]) -> np.ndarray:
    return np.array([item.code for item in items], np.uint8).reshape(-1, 2)


def ids_of(items: list[Item], id_type: str) -> np.ndarray:
    return np.array([item.id for item in items], np.int64 if id_type == "int64" else object)


def metadata_of(items: list[Item]) -> dict[str, pa.Array]:
    return {
        name: pa.array([getattr(item, name) for item in items], kind)
        for name, kind in COLUMN_TYPES.items()
    }


def index_of(items: list[Item], id_type: str) -> CodeIndex:
    return CodeIndex(LAYOUT, codes_of(items), ids_of(items, id_type), metadata_of(items))


def write_items(path: Path, items: list[Item], id_type: str, rows_per_part: int = 2) -> None:
    with CodeIndexWriter(path, LAYOUT, rows_per_part=rows_per_part) as writer:
        writer.append_table(index_of(items, id_type).table)


def items_of(index: CodeIndex) -> list[Item]:
    """The items of an index, one by one."""
    rows = index.metadata.to_pylist()
    assert [set(row) for row in rows] == [set(COLUMN_TYPES)] * len(index)
    return [
        Item(id_, tuple(code.tolist()), row["label"], row["tags"])
        for id_, code, row in zip(index.ids.tolist(), index.codes, rows, strict=True)
    ]
