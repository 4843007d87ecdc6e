"""Columns of a CSV, TSV or Parquet file as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from tfpqn.files.foreign import reading, require_file

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
SUFFIXES = (*DELIMITERS, PARQUET)
EXPECTED = "a table of UTF-8 text (.csv, .tsv) or in Parquet (.parquet)"


def row_number(path: Path, position: int) -> int:
    """What a person calls a row: in text the header is row 1, and blank lines do not count."""
    return position + (1 if path.suffix.lower() == PARQUET else 2)


def read_column_names(path: Path) -> list[str]:
    """Names of the columns, without the spaces around them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The suffix is none of `SUFFIXES`, or the file is of another form.
    """
    require_file(path, "A table", SUFFIXES)
    return [name.strip() for name in _read_spelled_names(path)]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The cells of some columns, without the spaces around them; a missing value is empty text.

    Numbers of a Parquet file become text; in text files they are never read as numbers, so "007"
    stays what it is.

    Raises:
        ValueError: The file is torn, a row has too many or too few cells, or a column holds what
            is no text, such as a list.
    """
    spelled = {name.strip(): name for name in _read_spelled_names(path)}
    chosen = [spelled[name] for name in names]
    with reading(path, EXPECTED):
        if path.suffix.lower() == PARQUET:
            table = parquet.ParquetFile(path).read(columns=chosen)
        else:
            table = _read_csv(path, chosen)
    return {name: _as_text(path, name, table[spelled[name]]) for name in names}


def _read_spelled_names(path: Path) -> list[str]:
    with reading(path, EXPECTED):
        if path.suffix.lower() == PARQUET:
            return list(parquet.ParquetFile(path).schema_arrow.names)
        # A row with too many cells is told of, with its number, when all rows are read.
        options = _parse_options(path, invalid_row_handler=lambda row: "skip")
        with csv.open_csv(path, parse_options=options) as reader:
            return list(reader.schema.names)


def _read_csv(path: Path, names: Sequence[str]) -> pa.Table:
    return csv.read_csv(
        path,
        # One thread knows the number of a faulty row.
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=_parse_options(path),
        convert_options=csv.ConvertOptions(
            include_columns=list(names), column_types=dict.fromkeys(names, pa.large_string())
        ),
    )


def _parse_options(path: Path, **options: object) -> csv.ParseOptions:
    delimiter = DELIMITERS[path.suffix.lower()]
    return csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, **options)


def _as_text(path: Path, name: str, column: pa.ChunkedArray) -> list[str]:
    try:
        text = column.cast(pa.large_string())
    except pa.ArrowException as error:
        raise ValueError(
            f"Column {name!r} of {str(path)!r} must hold text or numbers. Received: {column.type}"
        ) from error
    return list(pc.utf8_trim_whitespace(text).fill_null("").to_pylist())
