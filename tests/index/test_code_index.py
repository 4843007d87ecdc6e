"""Laws of the index: it comes back as it went, or the error says what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.small_index import CODES, LAYOUT, PART, assert_same, make_index
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout


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
@settings(max_examples=15)
def test_saved_index_loads_as_it_was(
    index: CodeIndex, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("round_trip") / "index"
    index.save(path)
    assert_same(CodeIndex.load(path), index)
    report = CodeIndex.verify(path)
    assert (report.num_items, report.layout) == (len(index), index.layout)
    assert report.id_type == index.id_type


@pytest.mark.parametrize("ids", [[], np.array([], object)])
def test_empty_index_keeps_its_types(tmp_path: Path, ids: Any) -> None:
    empty = CodeIndex(LAYOUT, np.empty((0, 4), np.uint8), ids, {"label": []})
    empty.save(tmp_path / "index")
    assert_same(CodeIndex.load(tmp_path / "index"), empty)
    assert CodeIndex.verify(tmp_path / "index").num_items == len(empty) == 0
    with CodeIndexWriter(tmp_path / "nothing", LAYOUT) as writer:
        writer.append(np.empty((0, 4), np.uint8), [], {"label": []})
    assert len(CodeIndex.load(tmp_path / "nothing")) == 0


def test_only_the_columns_asked_for_are_loaded(tmp_path: Path) -> None:
    make_index().save(tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index", ["tags"]).metadata.column_names == ["tags"]
    assert CodeIndex.load(tmp_path / "index", []).metadata.num_columns == 0
    with pytest.raises(ValueError, match=r"\['label', 'tags'\]. Received: \['label', 'path'\]"):
        CodeIndex.load(tmp_path / "index", ["label", "path"])


@pytest.mark.parametrize(
    ("num_codewords", "dtype", "stored"),
    [
        (1, "uint8", "00 00"),
        (256, "uint8", "00 ff"),
        (257, "uint16", "0000 ff00"),
        (2**16, "uint16", "0000 ff00"),
        (2**16 + 1, "int32", "00000000 ff000000"),
    ],
)
def test_codes_are_as_small_as_the_codebooks_allow_and_stored_little_endian(
    tmp_path: Path, num_codewords: int, dtype: str, stored: str
) -> None:
    layout = CodeLayout(np.int64(2), num_codewords, "ab")
    assert layout.code_dtype == dtype
    CodeIndex(layout, [[0, min(255, num_codewords - 1)]], [7]).save(tmp_path / "index")
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


@pytest.mark.parametrize("rows_of_append", [3, 10])
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


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "ids must hold values of type int64. Received: string",
         (CODES, ["a", "b"], {"label": [0, 1]})),
        (ValueError, r"must have the columns \['label'\]. Received: \[\]", (CODES, [3, 4], {})),
        (TypeError, "'label' must hold values of type int64. Received: double",
         (CODES, [3, 4], {"label": [1.5, 2]})),
        (ValueError, r"code_length=4. Received: shape \[2, 3\]", (CODES[:, :3], [3, 4], {})),
        (TypeError, "codes must be integers. Received: dtype float32",
         (CODES.astype("float32"), [3, 4], {"label": [1, 2]})),
        (ValueError, "Received: values from 0 to 256", ([[0, 0, 0, 256]], [3], {"label": [1]})),
        (ValueError, "Received: values from -1 to 0", ([[0, 0, 0, -1]], [3], {"label": [1]})),
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


def test_existing_index_is_replaced_only_on_demand_and_other_things_never(tmp_path: Path) -> None:
    path = tmp_path / "index"
    make_index().save(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_index(3).save(path)
    make_index(3).save(path, overwrite=True)
    assert len(CodeIndex.load(path)) == 3
    (path / "bird.jpg").touch()
    with pytest.raises(FileExistsError, match=r"also holds 'bird\.jpg'"):
        make_index().save(path, overwrite=True)
    assert (path / "bird.jpg").exists()


def test_codes_and_ids_are_taken_without_a_copy_and_cannot_be_written() -> None:
    codes, ids = np.zeros((3, 4), np.uint8), np.arange(3)
    index = CodeIndex(LAYOUT, codes, ids)
    assert np.shares_memory(index.codes, codes)
    assert np.shares_memory(index.ids, ids)
    assert codes.flags.writeable
    for array in (index.codes, index.ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array([b"a", b"b"], object), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (["bird 鳥", "\0"], ["bird 鳥", "\0"]),
        (np.array([1, 2], "uint8"), [1, 2]),
        (np.array([1, 2], ">i4"), [1, 2]),
        (range(1, 3), [1, 2]),
        ([2**53 + 1, -(2**63)], [2**53 + 1, -(2**63)]),
    ],
)
def test_integers_and_strings_come_in_every_form(ids: Any, expected: list[Any]) -> None:
    index = CodeIndex(LAYOUT, CODES, ids, {"label": ids})
    assert index.ids.tolist() == index.metadata["label"].to_pylist() == expected
    assert index.id_type == ("string" if isinstance(expected[0], str) else "int64")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, 5], "unique. Received: the id 5 2 times"),
        (["é", "é"], "unique. Received: the id 'é' 2 times"),
        ([5], "one for each of the 2 codes. Received: 1"),
        ([1, -1], "leave -1 free"),
        (["a", ""], "leave '' free"),
        (["a", None], "Received: 1 missing ids"),
        ([True, False], "all integers or all strings. Received: bool"),
        (["a", 1], "values of one type. Received"),
        (np.array([1, 2**63], np.uint64), "type int64. Received: "),
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
        ((4, 256, "network"), ValueError, "Received: 'network'"),
        ((4, 256, b"ab"), ValueError, "lower-case hex digits. Received: b'ab'"),
    ],
)
def test_layout_that_cannot_be_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CodeLayout(*arguments)
