"""The manifest of an index on disk: its parts, their content, and how to tell they are whole."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.foreign import read_json, reading, require_within
from tfpqn.files.typed_json import require_types
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.schema import (
    ID_COLUMN,
    ID_TYPES,
    IdType,
    id_type_of,
    index_schema,
    metadata_type,
    metadata_types,
)

MANIFEST_NAME = "manifest.json"
_FORMAT_VERSION = 1
_MAX_TRIES = 10
_FIELDS = {"code_length": int, "num_codewords": int, "fingerprint": str, "num_items": int}
_FIELDS |= {"format_version": int, "id_type": str, "metadata_columns": dict, "parts": list}
_PART_FIELDS = {"name": str, "rows": int, "bytes": int, "sha256": str}

_Result = TypeVar("_Result")


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
        return id_type_of(self.schema.field(ID_COLUMN))

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Name -> type of each metadata column."""
        return metadata_types(self.schema)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder."""
        fields = {
            "format_version": _FORMAT_VERSION,
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
    """The content of an index by its manifest; `CodeIndex.verify` looks into the parts, too.

    Raises:
        BlockingIOError: The index is replaced again and again while it is read.
        FileNotFoundError: The folder is no index, or a part is missing.
        ValueError: The manifest is torn, of another format version, or contradicts itself; a part
            is of another size or foreign.
    """
    return read_one_state(Path(path), lambda manifest: manifest)


def read_one_state(folder: Path, read: Callable[[Manifest], _Result]) -> _Result:
    """What `read` gives of an index, though others may replace it meanwhile.

    A folder is replaced as a whole, and a part is opened once and compared with its checksum. So
    what is read is of one state; what fails because the folder was replaced is tried again.
    """
    for _ in range(_MAX_TRIES):
        stamp = _stamp(folder)
        try:
            return read(_read_manifest(folder))
        except (FileNotFoundError, ValueError):
            if stamp == _stamp(folder):
                raise
    raise BlockingIOError(
        "An index must stay as it is while it is read. Received: "
        f"{folder}, replaced during each of {_MAX_TRIES} tries"
    )


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """The marks that tell the file of a manifest from any other; None where there is none."""
    try:
        status = os.stat(folder / MANIFEST_NAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be the folder of an index, which holds a {MANIFEST_NAME}. "
            f"Received: {str(folder)!r}, which {'has none' if folder.is_dir() else 'is no folder'}"
        )
    require_within(path, folder)
    with reading(path, "the manifest of an index"):
        manifest = _parse(read_json(path, "the manifest of an index"))
    _require_parts(folder, manifest)
    return manifest


def _require_parts(folder: Path, manifest: Manifest) -> None:
    for part in manifest.parts:
        path = folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{part.name} is missing from the index {str(folder)!r}")
        require_within(path, folder)
        require_as_written(path, "bytes", part.bytes, path.stat().st_size)
    found = {path.name for path in folder.glob("*.parquet")}
    if foreign := found - {part.name for part in manifest.parts}:
        raise ValueError(
            f"The index {str(folder)!r} must hold the {len(manifest.parts)} parts that its "
            f"manifest names, and no other. Received: {min(foreign)}, which is foreign"
        )


def require_as_written(path: Path, name: str, expected: object, found: object) -> None:
    """Raise a ValueError if a part differs from what the manifest says of it."""
    if expected != found:
        raise ValueError(
            f"{path} is torn, changed or of another index: the manifest says {name} {expected}. "
            f"Received: {found}"
        )


def _parse(fields: dict[str, Any]) -> Manifest:
    require_types(fields, _FIELDS)
    _require_equal(fields, format_version=_FORMAT_VERSION)
    layout = CodeLayout(fields["code_length"], fields["num_codewords"], fields["fingerprint"])
    id_type, entries = fields["id_type"], fields["parts"]
    if id_type not in ID_TYPES:
        raise ValueError(f"expected id_type to be one of {list(ID_TYPES)}, not {id_type!r}")
    columns = {name: metadata_type(kind) for name, kind in fields["metadata_columns"].items()}
    schema = index_schema(layout, id_type, columns)
    names = [part_name(number, len(entries)) for number in range(len(entries))]
    parts = map(_parse_part, entries, names, [ID_TYPES[id_type]] * len(entries))
    manifest = Manifest(layout, schema, tuple(parts))
    _require_equal(fields, code_dtype=layout.code_dtype.name, num_items=manifest.num_items)
    return manifest


def _parse_part(entry: dict[str, Any], name: str, id_type: pa.DataType) -> Part:
    require_types(entry, _PART_FIELDS)
    # Only this one name: nothing outside the folder can be meant, nothing twice.
    _require_equal(entry, name=name)
    ends = entry.get("id_range")
    if ends is not None:
        low, high = pa.array(ends, id_type).to_pylist()
        ends = (low, high)
    return Part(name, entry["rows"], entry["bytes"], entry["sha256"], ends)


def _require_equal(fields: dict[str, Any], **expected: object) -> None:
    for name, value in expected.items():
        if fields[name] != value:
            raise ValueError(f"expected {name} {value!r}, not {fields[name]!r}")
