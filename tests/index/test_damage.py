"""Laws of damage: an index on disk is whole, or the error names what is wrong with it."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfpqn.index
from tests.index.small_index import (
    CODES,
    LAYOUT,
    PART,
    assert_same,
    edit_manifest,
    make_index,
    replace_part,
)
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout, compact_index, update_index

ROOT = Path(tfpqn.index.__file__).parent.parent.parent
READERS = pytest.mark.parametrize("read", [CodeIndex.load, CodeIndex.verify])


def run_apart(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code with the index room alone: the package's face would import Keras."""
    face = f"""
        import sys, types
        package = sys.modules["tfpqn"] = types.ModuleType("tfpqn")
        package.__path__ = [{str(ROOT / "tfpqn")!r}]
    """
    script = textwrap.dedent(face) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )


def test_index_needs_neither_keras_nor_tensorflow() -> None:
    heavy = run_apart(
        """
        import tfpqn.index
        print({"keras", "tensorflow", "torch", "jax"} & set(sys.modules))
        """
    )
    assert heavy.stdout.strip() == "set()", heavy.stderr


@pytest.mark.parametrize(
    ("owner", "name", "survivor"),
    [
        ("part_writer.PartWriter", "finish", "former"),
        ("atomic", "_put_in_place", "former"),
        ("partials.shutil", "rmtree", "new"),
    ],
)
def test_kill_leaves_one_whole_version(
    tmp_path: Path, owner: str, name: str, survivor: str
) -> None:
    former, new = make_index(5), make_index(7, seed=1)
    former.save(tmp_path / "index")
    new.save(tmp_path / "new")
    killed = run_apart(
        """
        import os, signal
        from tfpqn.files import atomic, partials
        from tfpqn.index import CodeIndex, manifest, part_writer
        index = CodeIndex.load(sys.argv[1])
        owner = eval(sys.argv[3])
        setattr(owner, sys.argv[4], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        index.save(sys.argv[2], overwrite=True)
        """,
        *(str(tmp_path / "new"), str(tmp_path / "index"), owner, name),
    )
    assert killed.returncode == -9, killed.stderr
    assert len(list(tmp_path.glob(".index.partial-*"))) == 1
    CodeIndex.verify(tmp_path / "index")
    assert_same(CodeIndex.load(tmp_path / "index"), former if survivor == "former" else new)
    new.save(tmp_path / "index", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "new"]


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def flip_a_byte(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)


def remove(part: Path) -> None:
    part.unlink()


@READERS
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate, ValueError, "is torn, changed or of another index: the manifest says bytes"),
        (flip_a_byte, ValueError, "is torn, changed or of another index: the manifest says sha256"),
        (remove, FileNotFoundError, "is missing"),
    ],
)
def test_damaged_part_is_named(
    tmp_path: Path,
    read: Callable[[Path], object],
    damage: Callable[[Path], None],
    error: type[Exception],
    message: str,
) -> None:
    index = make_index(10)
    name = "part-00002-of-00003.parquet"
    with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=4) as writer:
        writer.append(index.codes, index.ids)
    damage(tmp_path / "index" / name)
    with pytest.raises(error, match=f"{name} .*{message}"):
        read(tmp_path / "index")


@READERS
def test_part_that_the_manifest_does_not_name_is_foreign(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    make_index().save(tmp_path / "index")
    (tmp_path / "index" / "part-00001-of-00002.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="Received: part-00001-of-00002.parquet, which is foreign"):
        read(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "expected format_version 1, not 2"),
        ({"format_version": None}, "format_version=None, which is not int"),
        ({"num_items": 11}, "expected num_items 10, not 11"),
        ({"num_codewords": 257}, "expected code_dtype 'uint16', not 'uint8'"),
        ({"code_length": 0}, "code_length must be from 1"),
        ({"id_type": "int32"}, "expected id_type to be one of .*, not 'int32'"),
        ({"parts": [{}]}, "KeyError 'name'"),
        ({"code_length": 2**31 - 1, "num_codewords": 2**31}, "less than 2\\*\\*31 bytes"),
        ({"metadata_columns": {"label": "int65"}}, "No type alias for int65"),
        ({"metadata_columns": {"label": 1}}, "expected metadata columns and their types"),
        ({"metadata_columns": {"id": "int64"}}, "expected metadata columns and their types"),
    ],
)
def test_manifest_that_contradicts_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    make_index().save(tmp_path / "index")
    edit_manifest(tmp_path / "index", lambda fields: fields.update(change))
    with pytest.raises(ValueError, match=rf"manifest\.json' must be .*Received: .*{message}"):
        CodeIndex.load(tmp_path / "index")


def test_manifest_can_name_nothing_but_its_parts(tmp_path: Path) -> None:
    name = "../index/" + PART
    make_index().save(tmp_path / "index")
    edit_manifest(tmp_path / "index", lambda fields: fields["parts"][0].update(name=name))
    with pytest.raises(ValueError, match=f"expected name '{PART}', not '{name}'"):
        CodeIndex.load(tmp_path / "index")


def test_manifest_that_is_torn_or_missing_is_named(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"manifest\.json' must be the manifest of an index"):
        CodeIndex.load(tmp_path / "index")
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds a manifest\.json\. .* has none"):
        CodeIndex.load(tmp_path / "index")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        CodeIndex.load(tmp_path / "nowhere")


def test_part_of_another_engine_is_read(tmp_path: Path) -> None:
    """Spark writes binary of free size and nullable columns, in its own row groups."""
    index = make_index(10)
    index.save(tmp_path / "index")
    table = pa.table(
        {
            "label": index.metadata["label"],
            "code": pa.array([row.tobytes() for row in index.codes], pa.binary()),
            "tags": index.metadata["tags"].cast(pa.large_list(pa.large_string())),
            "id": index.ids,
        }
    )
    replace_part(tmp_path / "index", table, row_group_size=3, compression="gzip")
    CodeIndex.verify(tmp_path / "index")
    assert_same(CodeIndex.load(tmp_path / "index"), index)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"code": pa.array([b"\x10\x00", b"\x00\x00"], pa.binary(2))}, "values from 0 to 16"),
        ({"code": pa.array([b"\x00\x00", b"\x00"])}, "widths must match"),
        ({"code": pa.array([b"\x00\x00", None])}, "must have a code. Received: 1 without"),
        ({"code": pa.array([b"\x00" * 3] * 2, pa.binary(3))}, "must have the columns"),
        ({"id": pa.array(["a", "b"])}, "must have the columns"),
        ({"id": pa.array([1, None])}, "must have an id. Received: 1 missing"),
        ({"label": pa.array([1, 2])}, "must have the columns"),
    ],
)
def test_part_that_does_not_fit_is_named(
    tmp_path: Path, columns: dict[str, pa.Array], message: str
) -> None:
    layout = CodeLayout(code_length=2, num_codewords=16, fingerprint="ab")
    CodeIndex(layout, np.zeros((2, 2), int), [1, 2]).save(tmp_path / "index")
    fitting = {"id": pa.array([1, 2]), "code": pa.array([b"\x00\x01"] * 2, pa.binary(2))}
    replace_part(tmp_path / "index", pa.table({**fitting, **columns}))
    for read in (CodeIndex.load, CodeIndex.verify):
        with pytest.raises(ValueError, match=f"{PART}.*{message}"):
            read(tmp_path / "index")


def test_part_with_other_rows_than_the_manifest_says_is_named(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")

    def boast(fields: dict[str, Any]) -> None:
        fields["num_items"] = fields["parts"][0]["rows"] = 10**15

    edit_manifest(tmp_path / "index", boast)
    with pytest.raises(ValueError, match=f"{PART} must not take more than 100 times"):
        CodeIndex.load(tmp_path / "index")
    edit_manifest(tmp_path / "index", lambda fields: fields["parts"][0].update(rows=11))
    edit_manifest(tmp_path / "index", lambda fields: fields.update(num_items=11))
    with pytest.raises(ValueError, match=f"{PART} .* the manifest says rows 11. Received: 10"):
        CodeIndex.load(tmp_path / "index")


def bomb_of_rows(count: int) -> tuple[pa.Table, dict[str, Any]]:
    """Ids as their differences, and one code: bits for each item."""
    ids = pa.array(np.arange(count))
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [b"\x00" * 4])
    table = pa.table({"id": ids, "code": codes.cast(pa.binary(4))})
    return table, {"use_dictionary": ["code"], "column_encoding": {"id": "DELTA_BINARY_PACKED"}}


def bomb_of_strings(count: int, as_list: bool) -> tuple[pa.Table, dict[str, Any]]:
    """One long string that stands in each row, or in the list of each row."""
    ids = np.arange(count)
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["x" * 10**6])
    if as_list:
        text = pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), text)
    codes = pa.array([b"\x00" * 4] * count, pa.binary(4))
    return pa.table({"id": ids, "code": codes, "path": text}), {"store_schema": False}


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: bomb_of_rows(8_000_000),
        lambda: bomb_of_strings(1000, as_list=False),
        lambda: bomb_of_strings(1000, as_list=True),
    ],
    ids=["rows", "strings", "lists"],
)
@READERS
def test_few_bytes_that_stand_for_many_are_refused_before_they_grow(
    tmp_path: Path, bomb: Any, read: Callable[[Path], object]
) -> None:
    table, options = bomb()
    CodeIndex(LAYOUT, CODES, [1, 2]).save(tmp_path / "index")
    replace_part(tmp_path / "index", table, compression="zstd", **options)
    kinds = {"path": "string" if table.schema[-1].type.num_fields == 0 else "list<string>"}
    if "path" in table.column_names:
        edit_manifest(tmp_path / "index", lambda fields: fields.update(metadata_columns=kinds))
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match=f"{PART} must not take more than 100 times"):
        read(tmp_path / "index")
    assert pa.total_allocated_bytes() - before < 2**24


def test_list_that_repeats_one_value_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 2**25
    tags = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), ["a"])
    tags = pa.ListArray.from_arrays(pa.array([0, number], pa.int32()), tags)
    table = pa.table({"id": [1], "code": pa.array([b"\x00" * 4], pa.binary(4)), "tags": tags})
    CodeIndex(LAYOUT, CODES, [1, 2]).save(tmp_path / "index")
    replace_part(tmp_path / "index", table, compression="zstd", store_schema=False)
    kinds = {"tags": "list<string>"}
    edit_manifest(tmp_path / "index", lambda fields: fields.update(metadata_columns=kinds))
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    with pytest.raises(ValueError, match=f"{PART} must not take more than 100 times"):
        CodeIndex.load(tmp_path / "index")


def test_forged_part_is_read_or_refused_and_never_ends_the_process(tmp_path: Path) -> None:
    """Its checksum fits: whoever wrote it wrote the manifest, too."""
    make_index(50).save(tmp_path / "index")
    part, rng = tmp_path / "index" / PART, np.random.default_rng(0)
    whole, num_refused = part.read_bytes(), 0
    for number in range(300):
        data = bytearray(whole)
        place = rng.integers(len(data)) if number % 3 else -1 - rng.integers(len(data) // 2)
        data[place] ^= 1 << rng.integers(8)
        part.write_bytes(data)
        entry = {"sha256": sha256_of_file(part)}
        edit_manifest(tmp_path / "index", lambda fields, e=entry: fields["parts"][0].update(e))
        try:
            CodeIndex.load(tmp_path / "index")
        except ValueError:
            num_refused += 1
    assert num_refused > 100


@pytest.mark.parametrize("name", [PART, "manifest.json"])
def test_link_that_leads_out_of_the_index_is_refused(tmp_path: Path, name: str) -> None:
    make_index().save(tmp_path / "index")
    (tmp_path / "index" / name).rename(tmp_path / name)
    (tmp_path / "index" / name).symlink_to(tmp_path / name)
    add = partial(update_index, items=CodeIndex(LAYOUT, CODES, [50, 51]))
    for read in (CodeIndex.load, CodeIndex.verify, compact_index, add):
        with pytest.raises(ValueError, match=f"{name}', a link that leads out"):
            read(tmp_path / "index")
