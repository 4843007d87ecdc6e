"""Laws of the index: it comes back as it went, or the error says what is wrong with it."""

import errno
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfpqn.index
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout, compact_index
from tfpqn.index.parquet_footer import read_column_chunks

LAYOUT = CodeLayout(code_length=4, num_codewords=256, fingerprint="ab" * 32)
PART = "part-00000-of-00001.parquet"
ROOT = Path(tfpqn.index.__file__).parent.parent.parent


def make_index(num_items: int = 10, seed: int = 0, layout: CodeLayout = LAYOUT) -> CodeIndex:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, layout.num_codewords, (num_items, layout.code_length))
    labels = rng.integers(0, 5, num_items)
    tags = [[f"tag {label}"] * int(label) for label in labels]
    return CodeIndex(layout, codes, np.arange(num_items), {"label": labels, "tags": tags})


def assert_same(first: CodeIndex, second: CodeIndex) -> None:
    assert first.layout == second.layout
    assert first.codes.dtype == second.codes.dtype == first.layout.code_dtype
    assert first.ids.dtype == second.ids.dtype
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(first.ids, second.ids)
    assert first.metadata.combine_chunks().equals(second.metadata.combine_chunks())


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


# Round trips


@st.composite
def indexes(draw: st.DrawFn) -> CodeIndex:
    num_codewords = draw(st.sampled_from([1, 2, 256, 257, 2**16, 2**16 + 1]))
    layout = CodeLayout(draw(st.integers(1, 5)), num_codewords, "0123456789abcdef")
    text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
    kinds = {
        "int64": (st.integers(-(2**63), 2**63 - 1).filter(lambda number: number != -1), np.int64),
        "string": (text, object),
    }
    values, dtype = kinds[draw(st.sampled_from(sorted(kinds)))]
    ids = draw(st.lists(values, unique=True, max_size=20))
    code = st.lists(
        st.integers(0, num_codewords - 1),
        min_size=layout.code_length,
        max_size=layout.code_length,
    )
    codes = draw(st.lists(code, min_size=len(ids), max_size=len(ids)))
    columns = {
        "number": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
        "weight": (st.floats(allow_nan=False), pa.float64()),
        "is_good": (st.booleans(), pa.bool_()),
        "path": (st.none() | text, pa.string()),
        "tags": (st.lists(text, max_size=3), pa.list_(pa.string())),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(columns))))
    metadata = {
        name: pa.array([draw(columns[name][0]) for _ in ids], columns[name][1]) for name in chosen
    }
    array = np.array(codes, np.int64).reshape(len(ids), layout.code_length)
    return CodeIndex(layout, array, np.array(ids, dtype=dtype), metadata)


@given(index=indexes())
def test_saved_index_loads_as_it_was(
    index: CodeIndex, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("round_trip") / "index"
    index.save(path)
    assert_same(CodeIndex.load(path), index)
    report = CodeIndex.verify(path)
    assert (report.num_items, report.layout) == (len(index), index.layout)
    assert report.id_type == index.id_type


@pytest.mark.parametrize("ids", [[2**53 + 1, 2**53, -(2**63)], ["bird 鳥", "\0", "🐦" * 40]])
def test_large_and_foreign_ids_survive(tmp_path: Path, ids: list[Any]) -> None:
    CodeIndex(LAYOUT, np.zeros((3, 4), np.uint8), ids).save(tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index").ids.tolist() == ids


@pytest.mark.parametrize("ids", [[], np.array([], object)])
def test_empty_index_works_everywhere(tmp_path: Path, ids: Any) -> None:
    empty = CodeIndex(LAYOUT, np.empty((0, 4), np.uint8), ids, {"label": []})
    empty.save(tmp_path / "index")
    loaded = CodeIndex.load(tmp_path / "index")
    assert_same(loaded, empty)
    assert CodeIndex.verify(tmp_path / "index").num_items == len(loaded) == 0


def test_writer_that_got_nothing_leaves_an_empty_index(tmp_path: Path) -> None:
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        writer.append(np.empty((0, 4), np.uint8), [], {"label": []})
    assert len(CodeIndex.load(tmp_path / "index")) == 0


def test_only_the_columns_asked_for_are_loaded(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index", ["tags"]).metadata.column_names == ["tags"]
    assert CodeIndex.load(tmp_path / "index", []).metadata.num_columns == 0
    with pytest.raises(ValueError, match=r"\['label', 'tags'\]. Received: \['label', 'path'\]"):
        CodeIndex.load(tmp_path / "index", ["label", "path"])


@pytest.mark.parametrize(
    ("num_codewords", "stored"),
    [(256, "01 ff"), (257, "0100 ff00"), (2**16 + 1, "01000000 ff000000")],
)
def test_codes_are_stored_little_endian(tmp_path: Path, num_codewords: int, stored: str) -> None:
    layout = CodeLayout(2, num_codewords, "ab")
    CodeIndex(layout, [[1, 255]], [7]).save(tmp_path / "index")
    table = pq.read_table(tmp_path / "index" / PART)
    assert table["code"].to_pylist() == [bytes.fromhex(stored)]
    assert layout.bytes_per_code == len(bytes.fromhex(stored))


def test_manifest_says_what_the_parts_hold(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    fields = json.loads((tmp_path / "index" / "manifest.json").read_text())
    part = tmp_path / "index" / PART
    assert fields["parts"] == [
        {
            "name": PART,
            "rows": 10,
            "bytes": part.stat().st_size,
            "sha256": sha256_of_file(part),
            "id_range": [0, 9],
        }
    ]
    expected = {
        "format_version": 1,
        "fingerprint": LAYOUT.fingerprint,
        "code_length": 4,
        "num_codewords": 256,
        "code_dtype": "uint8",
        "num_items": 10,
        "id_type": "int64",
        "metadata_columns": {"label": "int64", "tags": "list<string>"},
    }
    assert {name: fields[name] for name in expected} == expected


# The writer


@pytest.mark.parametrize("rows_of_append", [1, 3, 4, 10])
def test_parts_have_their_rows_and_names_however_items_come(
    tmp_path: Path, rows_of_append: int
) -> None:
    index = make_index(10)
    with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=4) as writer:
        for start in range(0, 10, rows_of_append):
            rows = slice(start, start + rows_of_append)
            metadata = index.metadata.slice(start, rows_of_append)
            writer.append(index.codes[rows], index.ids[rows], metadata)
            assert writer.num_items == min(10, start + rows_of_append)
    parts = sorted((tmp_path / "index").glob("*.parquet"))
    assert [part.name for part in parts] == [f"part-{n:05d}-of-00003.parquet" for n in range(3)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [4, 4, 2]
    assert_same(CodeIndex.load(tmp_path / "index"), index)


def test_many_small_appends_wait_as_few_tables(tmp_path: Path) -> None:
    index = make_index(700)
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        for row in range(700):
            writer.append(index.codes[row : row + 1], index.ids[row : row + 1])
            assert len(writer._parts._waiting) <= 257
    np.testing.assert_array_equal(CodeIndex.load(tmp_path / "index").codes, index.codes)


def test_caller_may_reuse_its_arrays_after_an_append(tmp_path: Path) -> None:
    codes, ids, labels = np.zeros((2, 4), np.uint8), np.arange(2), np.arange(2)
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        for _ in range(3):
            writer.append(codes, ids, {"label": labels})
            codes += 1
            ids += 2
            labels += 2
    loaded = CodeIndex.load(tmp_path / "index")
    assert loaded.codes[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.ids.tolist() == loaded.metadata["label"].to_pylist() == list(range(6))


CODES = np.zeros((2, 4), np.uint8)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "ids must hold values of type int64. Received: string",
         (CODES, ["a", "b"], {"label": [0, 1]})),
        (ValueError, r"must have the columns \['label'\]. Received: \[\]", (CODES, [3, 4], {})),
        (TypeError, "'label' must hold values of type int64. Received: double",
         (CODES, [3, 4], {"label": [1.5, 2]})),
        (ValueError, "'label' must have one value for each of the 2 rows. Received: 1",
         (CODES, [3, 4], {"label": [1]})),
        (ValueError, "one for each of the 2 codes. Received: 1", (CODES, [3], {})),
        (ValueError, r"code_length=4. Received: shape \[2, 3\]", (CODES[:, :3], [3, 4], {})),
        (TypeError, "codes must be integers. Received: dtype float32",
         (CODES.astype("float32"), [3, 4], {"label": [1, 2]})),
        (ValueError, "Received: values from 0 to 256", ([[0, 0, 0, 256]], [3], {"label": [1]})),
        (ValueError, "Received: values from -1 to 0", ([[0, 0, 0, -1]], [3], {"label": [1]})),
        (ValueError, "leave -1 free", (CODES, [3, -1], {"label": [1, 2]})),
    ],
)  # fmt: skip
def test_append_that_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, error: type[Exception], message: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(RuntimeError, match="append to .* that failed; nothing was written"):
        with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
            writer.append(CODES, [1, 2], {"label": [0, 1]})
            with pytest.raises(error, match=message):
                writer.append(*arguments)
            with pytest.raises(RuntimeError, match="a failed append before"):
                writer.append(CODES, [5, 6], {"label": [0, 1]})
    assert list(tmp_path.iterdir()) == []


def test_append_outside_the_block_is_refused(tmp_path: Path) -> None:
    writer = CodeIndexWriter(tmp_path / "index", LAYOUT)
    with pytest.raises(RuntimeError, match="inside the with block"):
        writer.append(CODES, [1, 2])
    with writer:
        writer.append(CODES, [1, 2])
    with pytest.raises(RuntimeError, match="a closed writer"):
        writer.append(CODES, [3, 4])


def test_exception_of_the_caller_passes_and_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=1) as writer:
            writer.append(CODES, [1, 2])
            _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_id_given_twice_to_the_writer_is_named_on_reading(tmp_path: Path) -> None:
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        writer.append(CODES, ["a", "b"])
        writer.append(CODES, ["c", "b"])
    for read in (CodeIndex.load, CodeIndex.verify):
        with pytest.raises(ValueError, match="unique. Received: the id 'b' 2 times"):
            read(tmp_path / "index")


def test_existing_index_is_replaced_only_on_demand(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_index(3).save(tmp_path / "index")
    make_index(3).save(tmp_path / "index", overwrite=True)
    assert len(CodeIndex.load(tmp_path / "index")) == 3


def test_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "bird.jpg").touch()
    with pytest.raises(FileExistsError, match=r"also holds 'bird\.jpg'"):
        make_index().save(tmp_path / "photographs", overwrite=True)
    assert (tmp_path / "photographs" / "bird.jpg").exists()


# Death and full disks


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
        ("manifest.Manifest", "write", "former"),
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


@pytest.mark.parametrize("method", ["write_table", "close"])
def test_full_disk_leaves_the_former_index_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    former = make_index(5)
    former.save(tmp_path / "index")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, method, fail)
        with pytest.raises(OSError, match="No space left"):
            make_index(7).save(tmp_path / "index", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert_same(CodeIndex.load(tmp_path / "index"), former)


# Damage


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def flip_a_byte(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)


def remove(part: Path) -> None:
    part.unlink()


def swap_with_another_index(part: Path) -> None:
    other = part.parent.parent / "other"
    with CodeIndexWriter(other, LAYOUT, rows_per_part=4) as writer:
        writer.append(make_index(10, seed=5).codes, np.arange(10))
    part.write_bytes((other / part.name).read_bytes())


@pytest.mark.parametrize("read", [CodeIndex.load, CodeIndex.verify])
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate, ValueError, "is torn, changed or of another index: the manifest says bytes"),
        (flip_a_byte, ValueError, "is torn, changed or of another index: the manifest says sha256"),
        (remove, FileNotFoundError, "is missing"),
        (swap_with_another_index, ValueError, "of another index"),
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


@pytest.mark.parametrize("read", [CodeIndex.load, CodeIndex.verify])
def test_part_that_the_manifest_does_not_name_is_foreign(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    make_index().save(tmp_path / "index")
    (tmp_path / "index" / "part-00001-of-00002.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="Received: part-00001-of-00002.parquet, which is foreign"):
        read(tmp_path / "index")


def test_footer_that_is_torn_is_named_even_without_checksums(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    part = tmp_path / "index" / PART
    part.write_bytes(part.read_bytes()[:-8] + b"\xff" * 8)
    with pytest.raises(ValueError, match=f"{PART}' must be a part of an index, whole"):
        CodeIndex.load(tmp_path / "index", check=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "expected format_version 1, not 2"),
        ({"format_version": None}, "expected format_version to be of type int, not None"),
        ({"num_items": 11}, "expected num_items 10, not 11"),
        ({"num_codewords": 257}, "expected code_dtype 'uint16', not 'uint8'"),
        ({"code_length": 0}, "code_length must be from 1"),
        ({"id_type": "int32"}, "expected id_type 'int64' or 'string', not 'int32'"),
        ({"fingerprint": "torn"}, "fingerprint must be a digest"),
        ({"parts": None}, "expected parts to be of type list"),
        ({"parts": [None]}, "expected name to be of type str"),
        ({"code_length": 2**31 - 1, "num_codewords": 2**31}, "less than 2\\*\\*31 bytes"),
        ({"code_length": 10**30}, "code_length must be from 1"),
        ({"metadata_columns": {"label": "int65"}}, "No type alias for int65"),
        ({"metadata_columns": {"label": 1}}, "expected metadata columns and their types"),
        ({"metadata_columns": {"id": "int64"}}, "expected metadata columns and their types"),
        ({"metadata_columns": {"label": "date32"}}, "must hold bool"),
    ],
)
def test_manifest_that_contradicts_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    make_index().save(tmp_path / "index")
    edit_manifest(tmp_path / "index", lambda fields: fields.update(change))
    with pytest.raises(ValueError, match=rf"manifest\.json' must be .*Received: .*{message}"):
        CodeIndex.load(tmp_path / "index")


@pytest.mark.parametrize("name", ["../index/" + PART, "/etc/passwd", "part-00001-of-00001.parquet"])
def test_manifest_can_name_nothing_but_its_parts(tmp_path: Path, name: str) -> None:
    make_index().save(tmp_path / "index")
    edit_manifest(tmp_path / "index", lambda fields: fields["parts"][0].update(name=name))
    with pytest.raises(ValueError, match=f"part 0 to be named '{PART}', not '{name}'"):
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


# Parts of other engines


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
        ({"code": pa.array(["a", "b"])}, "must have the columns"),
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
@pytest.mark.parametrize("read", [CodeIndex.load, CodeIndex.verify])
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


def test_footer_is_read_as_arrow_reads_it(tmp_path: Path) -> None:
    for compression in ("zstd", "none"):
        table, _ = bomb_of_strings(30, as_list=True)
        path = tmp_path / compression
        pq.write_table(table, path, compression=compression, row_group_size=7, store_schema=False)
        footer = pq.read_metadata(path)
        groups = [footer.row_group(number) for number in range(5)]
        expected = [
            (column.path_in_schema, column.num_values, column.total_uncompressed_size)
            for group in groups
            for column in map(group.column, range(3))
        ]
        with open(path, "rb") as file:
            columns = read_column_chunks(file)
        assert [column[:3] for column in columns] == expected
        assert [column.has_equal_strings_once for column in columns] == [False, False, True] * 5


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
    for read in (CodeIndex.load, CodeIndex.verify, compact_index):
        with pytest.raises(ValueError, match=f"{name}', a link that leads out"):
            read(tmp_path / "index")


# In memory


def test_codes_and_ids_are_taken_without_a_copy_and_cannot_be_written() -> None:
    codes, ids = np.zeros((3, 4), np.uint8), np.arange(3)
    index = CodeIndex(LAYOUT, codes, ids)
    assert np.shares_memory(index.codes, codes)
    assert np.shares_memory(index.ids, ids)
    assert codes.flags.writeable
    for array in (index.codes, index.ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("ids", [np.array([b"a", b"b"], object), np.array(["a", "b"]), ("a", "b")])
def test_strings_come_in_every_form(ids: Any) -> None:
    index = CodeIndex(LAYOUT, CODES, ids, {"label": ids})
    assert index.ids.tolist() == index.metadata["label"].to_pylist() == ["a", "b"]
    assert index.id_type == "string"


@pytest.mark.parametrize("ids", [np.array([1, 2], "uint8"), np.array([1, 2], ">i4"), range(1, 3)])
def test_integers_come_in_every_form(ids: Any) -> None:
    index = CodeIndex(LAYOUT, CODES, ids)
    assert index.ids.dtype == np.int64
    assert index.ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, 5], "unique. Received: the id 5 2 times"),
        (["é", "é"], "unique. Received: the id 'é' 2 times"),
        ([5], "one for each of the 2 codes. Received: 1"),
        ([1, -1], "leave -1 free"),
        (["a", ""], "leave '' free"),
        (["a", None], "Received: 1 missing ids"),
        ([1.5, 2], "all integers or all strings. Received: double"),
        ([True, False], "all integers or all strings. Received: bool"),
        (["a", 1], "values of one type. Received"),
        (np.array([1, 2**63], np.uint64), "type int64. Received others"),
        (["a", "\udc80"], "values of one type. Received"),
        ("ab", "one value for each row. Received"),
        ([[1], [2]], "all integers or all strings"),
    ],
)
def test_ids_that_cannot_be_are_refused(ids: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        CodeIndex(LAYOUT, CODES, ids)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"id": [1, 2]}, "other than '', 'id' and 'code'. Received: 'id'"),
        ({"label": [1]}, "'label' must have one value for each of the 2 rows. Received: 1"),
        ({"label": [None, None]}, "'label' must hold .* Received: only missing values"),
        ({"label": "ab"}, "'label' must be a sequence"),
        ({"label": np.zeros((2, 2))}, r"'label' must be a sequence .* shape \[2, 2\]"),
        ({"label": [1, "a"]}, "'label' must hold values of one type"),
        ({"label": [[1], [2]]}, "'label' must hold bool, int, float, str or lists of str"),
        ({"tags": [["a"], "b"]}, "'tags' must hold values of one type"),
        ([1, 2], "metadata must map column names to sequences. Received: list"),
    ],
)
def test_metadata_that_cannot_be_is_refused(metadata: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        CodeIndex(LAYOUT, CODES, [1, 2], metadata)


def test_index_of_another_network_is_refused() -> None:
    index = make_index()
    index.require_layout(LAYOUT)
    message = (
        "fingerprint cdcdcdcdcdcd.*Received: an index built with other codebooks.*abababababab"
    )
    with pytest.raises(ValueError, match=message):
        index.require_layout(CodeLayout(4, 256, "cd" * 32))
    with pytest.raises(ValueError, match="num_codewords=16. Received: an index with code_length=4"):
        index.require_layout(CodeLayout(8, 16, LAYOUT.fingerprint))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 256, "ab"), ValueError, "code_length must be from 1 to .*Received: 0"),
        ((4, 2**31 + 1, "ab"), ValueError, "num_codewords must be from 1"),
        ((4.0, 256, "ab"), TypeError, r"code_length must be an integer. Received: 4\.0"),
        ((True, 256, "ab"), TypeError, "code_length must be an integer"),
        ((4, 256, "network"), ValueError, "Received: 'network'"),
        ((4, 256, b"ab"), TypeError, "Received: b'ab' of type bytes"),
    ],
)
def test_layout_that_cannot_be_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CodeLayout(*arguments)


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (2**16, "uint16"), (2**16 + 1, "int32")],
)
def test_code_dtype_follows_the_number_of_codewords(num_codewords: int, dtype: str) -> None:
    assert CodeLayout(np.int64(3), num_codewords, "ab").code_dtype == dtype
