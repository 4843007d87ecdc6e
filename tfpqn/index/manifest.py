"""The manifest of an index on disk: its parts, their content, and how to tell they are whole."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.foreign import read_json, reading, require_within
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.schema import (
    CODE_COLUMN,
    ID_COLUMN,
    ID_TYPES,
    IdType,
    id_type_of,
    index_schema,
    metadata_type,
    metadata_types,
    type_name,
    type_named,
)

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1

_Value = TypeVar("_Value")


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
    """The content of `manifest.json`."""

    layout: CodeLayout
    schema: pa.Schema
    parts: tuple[Part, ...]

    @property
    def num_items(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def id_type(self) -> IdType:
        return id_type_of(self.schema)

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Name -> type of each metadata column."""
        return metadata_types(self.schema)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder."""
        text = json.dumps(self._to_json(), indent=2, ensure_ascii=False) + "\n"
        write_file_atomically(folder / MANIFEST_NAME, text.encode())

    def _to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            **_created_by(),
            "fingerprint": self.layout.fingerprint,
            "code_length": self.layout.code_length,
            "num_codewords": self.layout.num_codewords,
            "code_dtype": self.layout.code_dtype.name,
            "num_items": self.num_items,
            "id_type": self.id_type,
            "metadata_columns": self.metadata_columns,
            "parts": [dataclasses.asdict(part) for part in self.parts],
        }


def part_name(number: int, num_parts: int) -> str:
    """The file name of part `number` of `num_parts`."""
    return f"part-{number:05d}-of-{num_parts:05d}.parquet"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the index in `folder`, without a look at its parts.

    Raises:
        FileNotFoundError: The folder is no index.
        ValueError: The manifest is torn, of another format version, or contradicts itself.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be the folder of an index, which holds a {MANIFEST_NAME}. "
            f"Received: {str(folder)!r}, which {'has none' if folder.is_dir() else 'is no folder'}"
        )
    require_within(path, folder)
    with reading(path, "the manifest of an index"):
        return _parse(read_json(path, "the manifest of an index"))


def _parse(fields: dict[str, Any]) -> Manifest:
    _require_equal(fields, "format_version", int, FORMAT_VERSION)
    layout = CodeLayout(
        code_length=_field(fields, "code_length", int),
        num_codewords=_field(fields, "num_codewords", int),
        fingerprint=_field(fields, "fingerprint", str),
    )
    # An index of larger codes cannot be written: Arrow counts the bytes of a value in 32 bits.
    if layout.bytes_per_code >= 2**31:
        raise ValueError(f"expected codes of less than 2**31 bytes, not {layout.bytes_per_code}")
    id_type = _field(fields, "id_type", str)
    if id_type not in ("int64", "string"):
        raise ValueError(f"expected id_type 'int64' or 'string', not {id_type!r}")
    columns = _parse_columns(_field(fields, "metadata_columns", dict))
    schema = index_schema(layout, id_type, columns)  # type: ignore[arg-type]
    manifest = Manifest(layout, schema, _parse_parts(_field(fields, "parts", list), id_type))
    _require_equal(fields, "code_dtype", str, layout.code_dtype.name)
    _require_equal(fields, "num_items", int, manifest.num_items)
    return manifest


def _parse_columns(columns: dict[str, Any]) -> dict[str, pa.DataType]:
    kinds = {}
    for name, kind in columns.items():
        if name in ("", ID_COLUMN, CODE_COLUMN) or not isinstance(kind, str):
            raise ValueError(f"expected metadata columns and their types, not {name!r}: {kind!r}")
        kinds[name] = metadata_type(type_named(kind), name)
        if type_name(kinds[name]) != kind:
            raise ValueError(f"expected a type of metadata for the column {name!r}, not {kind!r}")
    return kinds


def _parse_parts(entries: list[Any], id_type: str) -> tuple[Part, ...]:
    parts = []
    for number, entry in enumerate(entries):
        expected = part_name(number, len(entries))
        name = _field(entry, "name", str)
        if name != expected:
            # Only this one name: nothing outside the folder can be meant, nothing twice.
            raise ValueError(f"expected part {number} to be named {expected!r}, not {name!r}")
        rows, size = (_field(entry, field, int) for field in ("rows", "bytes"))
        if not (0 <= rows < 2**63 and 0 <= size < 2**63):
            raise ValueError(f"expected sizes of {name} in 0 .. 2**63 - 1, not {rows} and {size}")
        id_range = _parse_range(entry.get("id_range"), ID_TYPES[id_type])
        parts.append(Part(name, rows, size, _field(entry, "sha256", str), id_range))
    return tuple(parts)


def _parse_range(ends: Any, kind: pa.DataType) -> Any:
    if ends is not None and (not isinstance(ends, list) or len(ends) != 2):
        raise ValueError(f"expected id_range to be two ids, not {ends!r}")
    return None if ends is None else tuple(pa.array(ends, kind).to_pylist())


def _field(fields: Any, name: str, kind: type[_Value]) -> _Value:
    value: object = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"expected {name} to be of type {kind.__name__}, not {value!r}")
    return value


def _require_equal(fields: dict[str, Any], name: str, kind: type[Any], expected: object) -> None:
    value = _field(fields, name, kind)
    if value != expected:
        raise ValueError(f"expected {name} {expected!r}, not {value!r}")


def _created_by() -> dict[str, dict[str, str]]:
    try:
        version = importlib.metadata.version("tfpqn")
    except importlib.metadata.PackageNotFoundError:
        return {}  # a bare checkout
    return {"created_by": {"package": "tfpqn", "version": version}}
