"""The coded collection in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index._columns import Metadata, metadata_table, type_name
from tfpqn.index._ids import IdType, check_unique_ids, convert_ids, ids_to_numpy, require_known
from tfpqn.index._reading import IndexReport, load_items, verify_index
from tfpqn.index.code_index_writer import CodeIndexWriter
from tfpqn.index.code_layout import CodeLayout

__all__ = ["CodeIndex"]


class CodeIndex:
    """Codes, ids and metadata of a collection of items.

    It does not change: `add`, `update`, `remove` and `merge` return new indexes, and `codes` and
    `ids` are read-only. Arrays of the right dtype are taken as they are, without a copy.

    Args:
        layout: what the codes look like and which codebooks they belong to.
        codes: integers `[num_items, code_length]`, each in `[0, num_codewords)`.
        ids: `[num_items]`, integers or strings, none twice; not -1 and not "", which stand for
            "no item" in the answers of a search. `[]` counts as int64, an empty object array as
            string.
        metadata: values `[num_items]` by column name: bool, int, float, str or lists of str; any
            may be None.

    Attributes:
        layout: as given.
        codes: `[num_items, code_length]` of `layout.code_dtype`.
        ids: `[num_items]`, int64, or object holding str.
        metadata: `pyarrow.Table` with `num_items` rows; without columns if there is no metadata.

    Raises:
        TypeError: if values are of a wrong type.
        ValueError: if shapes or ranges are wrong or an id occurs twice.
    """

    def __init__(
        self,
        layout: CodeLayout,
        codes: npt.ArrayLike,
        ids: Any,
        metadata: Metadata | None = None,
    ) -> None:
        self.layout = layout
        self.codes = layout.cast_codes(codes).view()
        self.codes.flags.writeable = False
        column = convert_ids(ids)
        if len(column) != len(self.codes):
            raise ValueError(
                f"ids must be one for each of the {len(self.codes)} codes, got {len(column)}."
            )
        check_unique_ids(column)
        self.ids = ids_to_numpy(column)
        self.metadata = metadata_table(metadata, len(self.codes))

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return (
            f"CodeIndex(num_items={len(self)}, id_type={self.id_type!r}, "
            f"metadata={self.metadata.column_names}, layout={self.layout})"
        )

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return len(self)

    @property
    def id_type(self) -> IdType:
        """Either "int64" or "string"."""
        return "int64" if self.ids.dtype == np.int64 else "string"

    @property
    def bytes_per_item(self) -> float:
        """Mean size of a code and its id (a string in UTF-8), without metadata."""
        if self.id_type == "int64":
            return self.layout.bytes_per_code + self.ids.itemsize
        size = pc.sum(pc.binary_length(convert_ids(self.ids))).as_py() or 0
        return self.layout.bytes_per_code + size / max(1, len(self))

    def add(self, codes: npt.ArrayLike, ids: Any, metadata: Metadata | None = None) -> CodeIndex:
        """Returns an index with further items, which come after those that are there.

        Args:
            codes: integers `[rows, code_length]`.
            ids: `[rows]`, of this index's type.
            metadata: values `[rows]` for each of this index's columns.

        Raises:
            TypeError: if values are of a wrong type.
            ValueError: if shapes, ranges or columns are wrong, or an id would be double.
        """
        return self.merge(self._like(codes, convert_ids(ids, self.id_type), metadata))

    def update(self, codes: npt.ArrayLike, ids: Any, metadata: Metadata | None = None) -> CodeIndex:
        """Returns an index in which the items of these ids have new codes and metadata.

        Each item keeps its position.

        Args:
            codes: integers `[rows, code_length]`.
            ids: `[rows]`, of items in the index, none twice.
            metadata: values `[rows]` for each of this index's columns; None keeps those that are
                there.

        Raises:
            TypeError: if values are of a wrong type.
            ValueError: if shapes, ranges or columns are wrong, the index has no item of an id, or
                an id is given twice.
        """
        column = convert_ids(ids, self.id_type)
        positions = self._positions(column)
        if metadata is None and self.metadata.num_columns:
            metadata = self.metadata.take(positions)
        newer = self._like(codes, column, metadata)
        self._require_same_columns(newer)
        new_codes = self.codes.copy()
        new_codes[positions] = newer.codes
        if not self.metadata.num_columns:
            return CodeIndex(self.layout, new_codes, self.ids)
        rows = np.arange(len(self))
        rows[positions] = len(self) + np.arange(len(newer))
        both = pa.concat_tables([self.metadata, newer._metadata_like(self)])
        return CodeIndex(self.layout, new_codes, self.ids, both.take(rows))

    def remove(self, ids: Any) -> CodeIndex:
        """Returns an index without the items of these ids; the others keep their order.

        Raises:
            TypeError: if the ids are not of this index's type.
            ValueError: if the index has no item of an id.
        """
        mask = np.ones(len(self), bool)
        mask[self._positions(convert_ids(ids, self.id_type))] = False
        metadata = self.metadata.filter(pa.array(mask)) if self.metadata.num_columns else None
        return CodeIndex(self.layout, self.codes[mask], self.ids[mask], metadata)

    def merge(self, other: CodeIndex) -> CodeIndex:
        """Returns an index of this one's items followed by the other's.

        Raises:
            ValueError: if layout, id type or metadata columns differ, or an id is in both.
        """
        other.require_layout(self.layout)
        self._require_same_columns(other)
        return CodeIndex(
            self.layout,
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.ids, other.ids]),
            pa.concat_tables([self.metadata, other._metadata_like(self)]),
        )

    def _like(
        self, codes: npt.ArrayLike, ids: pa.ChunkedArray, metadata: Metadata | None
    ) -> CodeIndex:
        """Returns an index of other items, whose values take the types of this one's."""
        kinds = {field.name: field.type for field in self.metadata.schema}
        return CodeIndex(self.layout, codes, ids, metadata_table(metadata, len(ids), kinds))

    def _metadata_like(self, other: CodeIndex) -> pa.Table:
        return self.metadata.select(other.metadata.column_names)

    def _positions(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Returns where the items of these ids stand, `[rows]`."""
        places = pc.index_in(ids, value_set=convert_ids(self.ids, self.id_type))
        require_known(ids, places.is_valid().to_numpy())
        return places.to_numpy()

    def _require_same_columns(self, other: CodeIndex) -> None:
        if self._column_types() != other._column_types():
            raise ValueError(
                f"both indexes must have the same column types, {self._column_types()}, "
                f"got {other._column_types()}."
            )

    def _column_types(self) -> dict[str, str]:
        kinds = {field.name: type_name(field.type) for field in self.metadata.schema}
        return {"id": self.id_type, **kinds}

    def require_layout(self, layout: CodeLayout) -> None:
        """Raises ValueError unless codes of `layout` can be searched in this index."""
        self.layout.require_sizes(layout)
        self.check_fingerprint(layout.fingerprint)

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raises ValueError unless the index was built with the codebooks of this fingerprint."""
        self.layout.require_fingerprint(fingerprint)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the index to a folder, in one step.

        Raises:
            FileExistsError: if `path` exists and `overwrite` is not set, or it is no index.
        """
        with CodeIndexWriter(path, self.layout, overwrite=overwrite) as writer:
            writer.append(self.codes, self.ids, self.metadata)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        *,
        check: bool = True,
    ) -> CodeIndex:
        """Reads an index from a folder.

        What is read is one state of the index, also while a writer replaces it.

        Args:
            path: the folder.
            columns: the metadata columns to read; all if None, none if empty.
            check: whether to compare the SHA-256 of every part with the manifest, and to refuse
                parts that it does not name. Sizes, rows, schema, range of codes and double ids
                are checked in any case.

        Raises:
            BlockingIOError: if the index is replaced again and again while it is read.
            FileNotFoundError: if the manifest or a part is missing.
            ValueError: if the manifest or a part is torn, changed or foreign.
        """
        manifest, items = load_items(Path(path), columns, check=check)
        return cls(manifest.layout, items.codes, items.ids, items.metadata)

    @staticmethod
    def verify(path: str | os.PathLike[str]) -> IndexReport:
        """Checks everything about an index on disk, without holding its codes in memory.

        Raises:
            FileNotFoundError: if the manifest or a part is missing.
            ValueError: naming the part, if one is torn, truncated, changed or foreign; or the
                id, if one is double.
        """
        return verify_index(Path(path))
