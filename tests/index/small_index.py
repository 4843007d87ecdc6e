"""A small index, and ways to change what lies on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeLayout

LAYOUT = CodeLayout(code_length=4, num_codewords=256, fingerprint="ab" * 32)
PART = "part-00000-of-00001.parquet"
CODES = np.zeros((2, 4), np.uint8)


def make_index(num_items: int = 10, seed: int = 0) -> CodeIndex:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, num_items)
    tags = [[f"tag {label}"] * int(label) for label in labels]
    codes = rng.integers(0, 256, (num_items, 4))
    return CodeIndex(LAYOUT, codes, np.arange(num_items), {"label": labels, "tags": tags})


def assert_same(first: CodeIndex, second: CodeIndex) -> None:
    assert first.layout == second.layout
    assert first.codes.dtype == second.codes.dtype == first.layout.code_dtype
    assert first.table.equals(second.table)


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = path / "manifest.json"
    fields = json.loads(manifest.read_text())
    edit(fields)
    manifest.write_text(json.dumps(fields))


def replace_part(path: Path, table: pa.Table, **options: Any) -> None:
    """Puts another engine's part into an index of one part, with a manifest that fits."""
    pq.write_table(table, path / PART, **options)
    entry = {
        "name": PART,
        "rows": table.num_rows,
        "bytes": (path / PART).stat().st_size,
        "sha256": sha256_of_file(path / PART),
    }
    edit_manifest(path, lambda fields: fields.update(num_items=table.num_rows, parts=[entry]))
