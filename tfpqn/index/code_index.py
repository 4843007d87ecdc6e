"""The coded collection in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from tfpqn.index.code_index_writer import CodeIndexWriter
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import Manifest, read_one_state
from tfpqn.index.parts import read_rows, read_tables
from tfpqn.index.schema import (
    CODE_COLUMN,
    ID_COLUMN,
    IdType,
    Metadata,
    id_type_of,
    require_unique,
    to_table,
)


class CodeIndex:
    """Codes, ids and metadata of a collection of items.

    It does not change; `update_index` and `remove_from_index` change the folder of an index. Arrays
    of the right dtype are taken as they are, without a copy.

    Args:
        layout: The look of the codes, and which codebooks they belong to.
        codes: Integers `[num_items, code_length]`, each in `[0, num_codewords)`.
        ids: `[num_items]`, integers or strings, none twice; not -1 and not "", which stand for
            "no item" in the answers of a search. `[]` counts as int64, an empty object array as
            string.
        metadata: Values `[num_items]` by column name: bool, int, float, str or lists of str; any
            may be None.

    Attributes:
        layout: The layout given.
        codes: `[num_items, code_length]` of `layout.code_dtype`, read-only.
        ids: `[num_items]`, int64, or object holding str; read-only.
        metadata: `pyarrow.Table` with `num_items` rows; without columns if there is no metadata.
        table: `pyarrow.Table` of ids, codes and metadata, as the parts on disk have them.

    Raises:
        TypeError: Values are of a wrong type.
        ValueError: Shapes or ranges are wrong or an id occurs twice.
    """

    def __init__(
        self,
        layout: CodeLayout,
        codes: npt.ArrayLike,
        ids: Any,
        metadata: Metadata | None = None,
    ) -> None:
        self.layout = layout
        self.table = to_table(layout, codes, ids, metadata)
        require_unique(self.table[ID_COLUMN])
        self.codes = layout.from_arrow(self.table[CODE_COLUMN])
        self.codes.flags.writeable = False
        self.ids = self.table[ID_COLUMN].to_numpy().view()
        self.ids.flags.writeable = False
        self.metadata = self.table.drop_columns([ID_COLUMN, CODE_COLUMN])

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return (
            f"CodeIndex(num_items={len(self)}, id_type={self.id_type!r}, "
            f"metadata={self.metadata.column_names}, layout={self.layout})"
        )

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self)

    @property
    def id_type(self) -> IdType:
        """Either "int64" or "string"."""
        return id_type_of(self.table[ID_COLUMN])

    def require_layout(self, layout: CodeLayout) -> None:
        """Raise a ValueError unless codes of `layout` can be searched in this index."""
        self.layout.require(layout)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the index to a folder, in one step.

        Raises:
            FileExistsError: `path` exists and `overwrite` is not set, or it is no index.
        """
        with CodeIndexWriter(path, self.layout, overwrite=overwrite) as writer:
            writer.append_table(self.table)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        positions: range | None = None,
    ) -> CodeIndex:
        """Read an index from a folder: one state of it, also while a writer replaces it.

        Args:
            path: The folder.
            columns: The metadata columns to read; all if None, none if empty.
            positions: The neighbouring items to read; all if None. Memory grows with these alone.

        Raises:
            BlockingIOError: The index is replaced again and again while it is read.
            FileNotFoundError: The manifest or a part is missing.
            ValueError: A column is unknown, or the manifest or a part is torn, changed or foreign.
        """
        folder = Path(path)

        def read(manifest: Manifest) -> CodeIndex:
            layout, kept = manifest.layout, _choose_columns(manifest, columns)
            names = [ID_COLUMN, CODE_COLUMN, *kept]
            if positions is None:
                tables = read_tables(folder, manifest, names)
            else:
                tables = read_rows(folder, manifest, names, positions)
            table = pa.concat_tables(tables).combine_chunks()
            codes = layout.from_arrow(table[CODE_COLUMN])
            return cls(layout, codes, table[ID_COLUMN], table.select(kept))

        return read_one_state(folder, read)

    @staticmethod
    def verify(path: str | os.PathLike[str]) -> Manifest:
        """Check everything about an index on disk, without holding its codes in memory.

        Raises:
            FileNotFoundError: The manifest or a part is missing.
            ValueError: A part is torn, truncated, changed or foreign, or an id is double; the
                message names it.
        """
        folder = Path(path)

        def verify(manifest: Manifest) -> Manifest:
            tables = read_tables(folder, manifest, manifest.schema.names)
            ids = pa.concat_tables(table.select([ID_COLUMN]) for table in tables)
            require_unique(ids[ID_COLUMN])
            return manifest

        return read_one_state(folder, verify)


def _choose_columns(manifest: Manifest, columns: Sequence[str] | None) -> list[str]:
    known = list(manifest.metadata_columns)
    if columns is None:
        return known
    if isinstance(columns, str) or not set(columns) <= set(known):
        raise ValueError(
            f"columns must be metadata columns of the index, {known}. Received: {columns!r}"
        )
    return list(dict.fromkeys(columns))
