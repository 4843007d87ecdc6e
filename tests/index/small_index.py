"""A collection as the plainest of things, a list of items; an index of it, and ways to harm it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout

LAYOUT = CodeLayout(code_length=2, num_codewords=256, fingerprint="ab" * 32)
PART = "part-00000-of-00001.parquet"
CODES = np.zeros((2, 2), np.uint8)
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


def make_items(num_items: int) -> list[Item]:
    return [
        Item(number, (number % 256, number // 256), number % 5, ["tag"] * (number % 3))
        for number in range(num_items)
    ]


def index_of(items: list[Item], id_type: str = "int64") -> CodeIndex:
    metadata = {
        name: pa.array([getattr(item, name) for item in items], kind)
        for name, kind in COLUMN_TYPES.items()
    }
    codes = np.array([item.code for item in items], np.uint8).reshape(-1, 2)
    ids = np.array([item.id for item in items], np.int64 if id_type == "int64" else object)
    return CodeIndex(LAYOUT, codes, ids, metadata)


def items_of(index: CodeIndex) -> list[Item]:
    """The items of an index, one by one."""
    rows = index.metadata.to_pylist()
    assert [set(row) for row in rows] == [set(COLUMN_TYPES)] * len(index)
    return [
        Item(id_, tuple(code.tolist()), row["label"], row["tags"])
        for id_, code, row in zip(index.ids.tolist(), index.codes, rows, strict=True)
    ]


def write_index(path: Path, index: CodeIndex, rows_per_part: int = 2, **options: Any) -> None:
    with CodeIndexWriter(path, LAYOUT, rows_per_part=rows_per_part, **options) as writer:
        writer.append_table(index.table)


def assert_same(first: CodeIndex, second: CodeIndex) -> None:
    assert first.layout == second.layout
    assert first.codes.dtype == second.codes.dtype == first.layout.code_dtype
    assert first.table.equals(second.table)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def contents_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def flip_a_byte(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)


def edit_manifest(path: Path, **fields: Any) -> None:
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | fields))


def edit_part(path: Path, **fields: Any) -> None:
    """Changes what the manifest says of the only part."""
    (entry,) = json.loads((path / "manifest.json").read_text())["parts"]
    edit_manifest(path, parts=[entry | fields])


def replace_part(path: Path, table: pa.Table, **options: Any) -> None:
    """Puts another engine's part into an index of one part, with a manifest that fits."""
    pq.write_table(table, path / PART, **options)
    edit_manifest(path, num_items=table.num_rows)
    size = (path / PART).stat().st_size
    edit_part(path, rows=len(table), bytes=size, sha256=sha256_of_file(path / PART), id_range=None)
