"""The manifest of an index on disk: what its parts hold and how to tell that they are whole."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.foreign import read_json, reading, require_within
from tfpqn.index._columns import CODE_COLUMN, ID_COLUMN, metadata_type, type_name, type_named
from tfpqn.index._ids import IdType
from tfpqn.index.code_layout import CodeLayout

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Part:
    """One Parquet file of an index."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    layout: CodeLayout
    id_type: IdType
    metadata_columns: dict[str, str]
    parts: tuple[Part, ...]

    @property
    def num_items(self) -> int:
        return sum(part.rows for part in self.parts)

    def write(self, folder: Path) -> None:
        """Writes `manifest.json` into the folder."""
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
    """Returns the file name of part `number` of `num_parts`."""
    return f"part-{number:05d}-of-{num_parts:05d}.parquet"


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks the manifest of the index in `folder`; looks at no part.

    Raises:
        FileNotFoundError: if the folder is no index.
        ValueError: if the manifest is torn, of another format version, or contradicts itself.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be the folder of an index, which holds a {MANIFEST_NAME}; "
            f"got {str(folder)!r}, which {'has none' if folder.is_dir() else 'is no folder'}."
        )
    require_within(path, folder)
    with reading(path, "the manifest of an index"):
        return _parse(read_json(path, "the manifest of an index"))


def _parse(fields: dict[str, Any]) -> Manifest:
    version = _field(fields, "format_version", int)
    if version != FORMAT_VERSION:
        raise ValueError(f"expected format_version {FORMAT_VERSION}, got {version}.")
    layout = CodeLayout(
        code_length=_field(fields, "code_length", int),
        num_codewords=_field(fields, "num_codewords", int),
        fingerprint=_field(fields, "fingerprint", str),
    )
    # An index of larger codes cannot be written: Arrow counts the bytes of a value in 32 bits.
    if layout.bytes_per_code >= 2**31:
        raise ValueError(f"expected codes of less than 2**31 bytes, got {layout.bytes_per_code}.")
    id_type = _field(fields, "id_type", str)
    if id_type not in ("int64", "string"):
        raise ValueError(f"expected id_type 'int64' or 'string', got {id_type!r}.")
    manifest = Manifest(
        layout=layout,
        id_type=id_type,  # type: ignore[arg-type]
        metadata_columns=_parse_columns(_field(fields, "metadata_columns", dict)),
        parts=_parse_parts(_field(fields, "parts", list)),
    )
    _require_equal(fields, "code_dtype", str, layout.code_dtype.name)
    _require_equal(fields, "num_items", int, manifest.num_items)
    return manifest


def _parse_columns(columns: dict[str, Any]) -> dict[str, str]:
    for name, kind in columns.items():
        if name in ("", ID_COLUMN, CODE_COLUMN) or not isinstance(kind, str):
            raise ValueError(f"expected metadata columns and their types, got {name!r}: {kind!r}.")
        if type_name(metadata_type(type_named(kind), name)) != kind:
            raise ValueError(f"expected a type of metadata for the column {name!r}, got {kind!r}.")
    return columns


def _parse_parts(entries: list[Any]) -> tuple[Part, ...]:
    parts = []
    for number, entry in enumerate(entries):
        expected = part_name(number, len(entries))
        name = _field(entry, "name", str)
        if name != expected:
            # Only this one name: nothing outside the folder can be meant, nothing twice.
            raise ValueError(f"expected part {number} to be named {expected!r}, got {name!r}.")
        sizes = {size: _field(entry, size, int) for size in ("rows", "bytes")}
        if min(sizes.values()) < 0 or max(sizes.values()) >= 2**63:
            raise ValueError(f"expected sizes of {name} of 0 or more, in 64 bits, got {sizes}.")
        parts.append(Part(name=name, sha256=_field(entry, "sha256", str), **sizes))
    return tuple(parts)


def _field(fields: Any, name: str, kind: type[_Value]) -> _Value:
    value: object = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"expected {name} to be of type {kind.__name__}, got {value!r}.")
    return value


def _require_equal(fields: dict[str, Any], name: str, kind: type[Any], expected: object) -> None:
    value = _field(fields, name, kind)
    if value != expected:
        raise ValueError(f"expected {name} {expected!r} from its other fields, got {value!r}.")


def _created_by() -> dict[str, dict[str, str]]:
    try:
        version = importlib.metadata.version("tfpqn")
    except importlib.metadata.PackageNotFoundError:
        return {}  # a bare checkout
    return {"created_by": {"package": "tfpqn", "version": version}}
