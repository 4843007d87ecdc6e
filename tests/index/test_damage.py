"""Laws of damage: an index on disk is whole, or the error names what is wrong with it."""

import subprocess
import sys
from functools import partial
from pathlib import Path

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
    edit_part,
    flip_a_byte,
    index_of,
    make_items,
    names_in,
    replace_part,
    write_index,
)
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeLayout, compact_index, update_index

ROOT = Path(tfpqn.index.__file__).parents[2]
READERS = (CodeIndex.load, CodeIndex.verify)


@pytest.fixture
def path(tmp_path):
    """An index of one part."""
    index_of(make_items(10)).save(tmp_path / "index")
    return tmp_path / "index"


KILL = """
import os, signal, sys
from tfpqn.files import atomic, partials
from tfpqn.index import CodeIndex
assert not {"keras", "tensorflow"} & sys.modules.keys(), "tfpqn.index needs neither"
index = CodeIndex.load(sys.argv[1])
setattr(eval(sys.argv[3]), sys.argv[4], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
index.save(sys.argv[2], overwrite=True)
"""


@pytest.mark.parametrize(
    ("owner", "name", "survivor"),
    [("atomic", "_put_in_place", "former"), ("partials.shutil", "rmtree", "new")],
)
def test_kill_leaves_one_whole_version(path, tmp_path, owner, name, survivor):
    former, new = CodeIndex.load(path), index_of(make_items(7))
    new.save(tmp_path / "new")
    command = [sys.executable, "-c", KILL, tmp_path / "new", path, owner, name]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert len(list(tmp_path.glob(".index.partial-*"))) == 1
    assert_same(CodeIndex.load(path), former if survivor == "former" else new)
    new.save(path, overwrite=True)
    assert names_in(tmp_path) == ["index", "new"]


def truncate(part):
    part.write_bytes(part.read_bytes()[:-100])


def add_another(part):
    part.with_name("part-00003-of-00004.parquet").touch()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate, ValueError, "00002-of.* is torn, .* another index: the manifest says bytes"),
        (flip_a_byte, ValueError, "00002-of.* is torn, .* another index: the manifest says sha256"),
        (Path.unlink, FileNotFoundError, "00002-of-00003.parquet is missing"),
        (add_another, ValueError, "Received: part-00003-of-00004.parquet, which is foreign"),
    ],
)
def test_damaged_part_is_named(tmp_path, damage, error, message):
    write_index(tmp_path / "index", index_of(make_items(10)), rows_per_part=4)
    damage(tmp_path / "index" / "part-00002-of-00003.parquet")
    for read in READERS:
        with pytest.raises(error, match=message):
            read(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "expected format_version 1, not 2"),
        ({"format_version": None}, "format_version=None, which is not int"),
        ({"num_items": 11}, "expected num_items 10, not 11"),
        ({"num_codewords": 257}, "expected code_dtype 'uint16', not 'uint8'"),
        ({"code_length": 0}, "code_length must be from 1 to .* Received: 0"),
        ({"fingerprint": "AB"}, "lower-case hex digits. Received: 'AB'"),
        ({"id_type": "int32"}, "expected id_type to be one of .*, not 'int32'"),
        ({"parts": [{}]}, "KeyError 'name'"),
        ({"parts": [{"name": f"../index/{PART}"}]}, f"expected name '{PART}', not '../index/"),
        ({"code_length": 2**31 - 1, "num_codewords": 2**31}, "OverflowError"),
        ({"metadata_columns": {"label": "int65"}}, "No type alias for int65"),
        ({"metadata_columns": {"label": "date32"}}, "expected metadata of a type among"),
        ({"metadata_columns": {"id": "int64"}}, "name must be a string other than '', 'id'"),
    ],
)
def test_manifest_that_contradicts_is_refused(path, change, message):
    edit_manifest(path, **change)
    with pytest.raises(ValueError, match=rf"manifest\.json' must be .*Received: .*{message}"):
        CodeIndex.load(path)


def test_manifest_that_is_torn_or_missing_is_named(path):
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"manifest\.json' must be the manifest of an index"):
        CodeIndex.load(path)
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds a manifest\.json\. .* has none"):
        CodeIndex.load(path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        CodeIndex.load(path / "nowhere")


def test_part_of_another_engine_is_read(path):
    """Spark writes binary of free size and nullable columns, in its own row groups."""
    index = CodeIndex.load(path)
    table = pa.table(
        {
            "label": index.metadata["label"].cast(pa.int32()),
            "code": pa.array([row.tobytes() for row in index.codes], pa.binary()),
            "tags": index.metadata["tags"].cast(pa.large_list(pa.large_string())),
            "id": index.ids,
        }
    )
    replace_part(path, table, row_group_size=3, compression="gzip")
    CodeIndex.verify(path)
    assert_same(CodeIndex.load(path), index)
    replace_part(path, table.slice(0, 0))
    assert len(CodeIndex.load(path)) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"code": pa.array([b"\x10\x00", b"\x00\x00"], pa.binary(2))}, "values from 0 to 16"),
        ({"code": pa.array([b"\x00\x00", b"\x00"])}, "widths must match"),
        ({"code": pa.array([b"\x00\x00", None])}, "'code' with null values"),
        ({"code": pa.array([b"\x00" * 3] * 2, pa.binary(3))}, "widths must match"),
        ({"id": pa.array(["a", "b"])}, "Failed to parse string"),
        ({"id": pa.array([1, None])}, "'id' with null values"),
        ({"id": pa.array([1, -1])}, "ids must leave -1 free"),
        ({"label": pa.array([1, 2])}, "must have the columns"),
    ],
)
def test_part_that_does_not_fit_is_named(tmp_path, columns, message):
    layout = CodeLayout(code_length=2, num_codewords=16, fingerprint="ab")
    CodeIndex(layout, CODES, [1, 2]).save(tmp_path / "index")
    fitting = {"id": pa.array([1, 2]), "code": pa.array([b"\x00\x01"] * 2, pa.binary(2))}
    replace_part(tmp_path / "index", pa.table({**fitting, **columns}))
    for read in READERS:
        with pytest.raises(ValueError, match=f"{PART}.*{message}"):
            read(tmp_path / "index")


def test_part_with_other_rows_than_the_manifest_says_is_named(path):
    edit_manifest(path, num_items=10**15)
    edit_part(path, rows=10**15)
    with pytest.raises(ValueError, match=f"{PART} .* the manifest says rows 10+. Received: 10$"):
        CodeIndex.load(path)


def bomb_of_rows(count):
    """Ids as their differences, and one code: bits for each item."""
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [b"\x00" * 2])
    table = pa.table({"id": np.arange(count), "code": codes.cast(pa.binary(2))})
    return table, {"use_dictionary": ["code"], "column_encoding": {"id": "DELTA_BINARY_PACKED"}}


def bomb_of_strings(count, text, lists=0):
    """One string that stands in each row, or many times in the lists of some."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])
    if lists:
        ends = pa.array(np.arange(lists + 1) * (count // lists), pa.int32())
        texts = pa.ListArray.from_arrays(ends, texts)
    codes = pa.array([b"\x00" * 2] * len(texts), pa.binary(2))
    table = pa.table({"id": np.arange(len(texts)), "code": codes, "path": texts})
    return table, {"store_schema": False}


@pytest.mark.parametrize(
    ("bomb", "is_read"),
    [
        (lambda: bomb_of_rows(8_000_000), False),
        (lambda: bomb_of_strings(1000, "x" * 10**6), True),
        (lambda: bomb_of_strings(1000, "x" * 10**6, lists=1000), True),
        (lambda: bomb_of_strings(2**25, "a", lists=1), False),
    ],
    ids=["rows", "strings", "lists", "one list"],
)
def test_few_bytes_that_stand_for_many_are_refused_before_they_grow(
    path, monkeypatch, bomb, is_read
):
    table, options = bomb()
    kind = "string" if table.schema[-1].type.num_fields == 0 else "list<string>"
    columns = {"path": kind} if "path" in table.column_names else {}
    replace_part(path, table, compression="zstd", **options)
    edit_manifest(path, metadata_columns=columns)
    if not is_read:
        monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    before = pa.total_allocated_bytes()
    for read in READERS:
        with pytest.raises(ValueError, match=f"{PART} must not take more than 100 times"):
            read(path)
    assert pa.total_allocated_bytes() - before < 2**24


def test_forged_part_is_read_or_refused_and_never_ends_the_process(path):
    """Its checksum fits: whoever wrote it wrote the manifest, too."""
    part, rng = path / PART, np.random.default_rng(0)
    whole, num_refused = part.read_bytes(), 0
    for number in range(150):
        data = bytearray(whole)
        place = rng.integers(len(data)) if number % 3 else -1 - rng.integers(len(data) // 2)
        data[place] ^= 1 << rng.integers(8)
        part.write_bytes(data)
        edit_part(path, sha256=sha256_of_file(part))
        try:
            CodeIndex.load(path)
        except ValueError:
            num_refused += 1
    assert num_refused > 50


@pytest.mark.parametrize("name", [PART, "manifest.json"])
def test_link_that_leads_out_of_the_index_is_refused(path, tmp_path, name):
    (path / name).rename(tmp_path / name)
    (path / name).symlink_to(tmp_path / name)
    add = partial(update_index, items=CodeIndex(LAYOUT, CODES, [50, 51]))
    for change in (*READERS, compact_index, add):
        with pytest.raises(ValueError, match=f"{name}', a link that leads out"):
            change(path)
