"""The manifest of an index on disk: its parts, their content, and how to tell they are whole."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.foreign import read_json, reading, require_within
from tfpqn.files.typed_json import require_types
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.schema import (
    CODE_COLUMN,
    ID_COLUMN,
    ID_TYPES,
    IdType,
    id_type_of,
    index_schema,
    metadata_type,
    type_name,
    type_named,
)

MANIFEST_NAME = "manifest.json"
_FORMAT_VERSION = 1
_FIELDS = {"code_length": int, "num_codewords": int, "fingerprint": str, "num_items": int}
_FIELDS |= {"format_version": int, "id_type": str, "metadata_columns": dict, "parts": list}
_PART_FIELDS = {"name": str, "rows": int, "bytes": int, "sha256": str}


@dataclass(frozen=True)
class Part:
    """One Parquet file of an index.

    Attributes:
        name: Its file name.
        rows: Number of its items.
        bytes: Its size.
        sha256: Digest of its bytes.
        id_range: Smallest and largest id, so that a search for others need not open it; or None.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    id_range: tuple[int, int] | tuple[str, str] | None = None

    def may_hold(self, ids: pa.ChunkedArray) -> bool:
        """Whether one of the ids may be in the part."""
        if self.id_range is None or not len(ids):
            return len(ids) > 0
        low, high = (pa.scalar(end, ids.type) for end in self.id_range)
        within = pc.and_(pc.greater_equal(ids, low), pc.less_equal(ids, high))
        return bool(pc.any(within).as_py())


@dataclass(frozen=True)
class Manifest:
    """The content of an index on disk, as its `manifest.json` says.

    Attributes:
        layout: The look of the codes, and which codebooks they belong to.
        schema: Ids, codes and metadata columns of each part.
        parts: The Parquet files, in order.
    """

    layout: CodeLayout
    schema: pa.Schema
    parts: tuple[Part, ...]

    @property
    def num_items(self) -> int:
        """Number of items in all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def num_bytes(self) -> int:
        """Size of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def id_type(self) -> IdType:
        """Either "int64" or "string"."""
        return id_type_of(self.schema)

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Name -> type of each metadata column."""
        return {field.name: type_name(field.type) for field in list(self.schema)[2:]}

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder."""
        fields = {
            "format_version": _FORMAT_VERSION,
            **_created_by(),
            **dataclasses.asdict(self.layout),
            "code_dtype": self.layout.code_dtype.name,
            "num_items": self.num_items,
            "id_type": self.id_type,
            "metadata_columns": self.metadata_columns,
            "parts": [dataclasses.asdict(part) for part in self.parts],
        }
        text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
        write_file_atomically(folder / MANIFEST_NAME, text.encode())


def part_name(number: int, num_parts: int) -> str:
    """The file name of part `number` of `num_parts`."""
    return f"part-{number:05d}-of-{num_parts:05d}.parquet"


def describe_index(path: str | os.PathLike[str]) -> Manifest:
    """The content of an index by its manifest; `CodeIndex.verify` looks at the parts, too.

    Raises:
        FileNotFoundError: The folder is no index.
        ValueError: The manifest is torn, of another format version, or contradicts itself.
    """
    folder, path = Path(path), Path(path) / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be the folder of an index, which holds a {MANIFEST_NAME}. "
            f"Received: {str(folder)!r}, which {'has none' if folder.is_dir() else 'is no folder'}"
        )
    require_within(path, folder)
    with reading(path, "the manifest of an index"):
        return _parse(read_json(path, "the manifest of an index"))


def _parse(fields: dict[str, Any]) -> Manifest:
    require_types(fields, _FIELDS)
    _require_equal(fields, format_version=_FORMAT_VERSION)
    layout = CodeLayout(fields["code_length"], fields["num_codewords"], fields["fingerprint"])
    # An index of larger codes cannot be written: Arrow counts the bytes of a value in 32 bits.
    if layout.bytes_per_code >= 2**31:
        raise ValueError(f"expected codes of less than 2**31 bytes, not {layout.bytes_per_code}")
    id_type = fields["id_type"]
    if id_type not in ID_TYPES:
        raise ValueError(f"expected id_type to be one of {list(ID_TYPES)}, not {id_type!r}")
    schema = index_schema(layout, id_type, _parse_columns(fields["metadata_columns"]))
    parts = [
        _parse_part(entry, part_name(number, len(fields["parts"])), ID_TYPES[id_type])
        for number, entry in enumerate(fields["parts"])
    ]
    manifest = Manifest(layout, schema, tuple(parts))
    _require_equal(fields, code_dtype=layout.code_dtype.name, num_items=manifest.num_items)
    return manifest


def _parse_columns(columns: dict[str, Any]) -> dict[str, pa.DataType]:
    kinds = {}
    for name, kind in columns.items():
        if name in ("", ID_COLUMN, CODE_COLUMN) or not isinstance(kind, str):
            raise ValueError(f"expected metadata columns and their types, not {name!r}: {kind!r}")
        kinds[name] = metadata_type(type_named(kind), name)
    return kinds


def _parse_part(entry: dict[str, Any], name: str, id_type: pa.DataType) -> Part:
    require_types(entry, _PART_FIELDS)
    # Only this one name: nothing outside the folder can be meant, nothing twice.
    _require_equal(entry, name=name)
    rows, size, ends = entry["rows"], entry["bytes"], entry.get("id_range")
    if not (0 <= rows < 2**63 and 0 <= size < 2**63):
        raise ValueError(f"expected sizes of {name} in 0 .. 2**63 - 1, not {rows} and {size}")
    if ends is not None:
        low, high = pa.array(ends, id_type).to_pylist()
        ends = (low, high)
    return Part(name, rows, size, entry["sha256"], ends)


def _require_equal(fields: dict[str, Any], **expected: object) -> None:
    for name, value in expected.items():
        if fields[name] != value:
            raise ValueError(f"expected {name} {value!r}, not {fields[name]!r}")


def _created_by() -> dict[str, dict[str, str]]:
    try:
        version = importlib.metadata.version("tfpqn")
    except importlib.metadata.PackageNotFoundError:
        return {}  # a bare checkout
    return {"created_by": {"package": "tfpqn", "version": version}}
