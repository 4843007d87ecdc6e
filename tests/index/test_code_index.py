"""Laws of the index: it comes back as it went, or the error says what is wrong with it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.index.small_index import CODES, LAYOUT, PART, assert_same, index_of, make_items, names_in
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout

COLUMNS = {
    "number": pa.array([-(2**63), None, 2**63 - 1]),
    "weight": pa.array([np.inf, -0.0, None]),
    "is_good": pa.array([True, None, False]),
    "path": pa.array(["bird \0鳥", "", None]),
    "tags": pa.array([["a", ""], [], None]),
}


@pytest.mark.parametrize("ids", [[-(2**63), 2**63 - 1, 0], ["b", " ", "a"]])
def test_saved_index_loads_as_it_was(tmp_path, ids):
    index = CodeIndex(LAYOUT, np.arange(6).reshape(3, 2), ids, COLUMNS)
    index.save(tmp_path / "index")
    assert_same(CodeIndex.load(tmp_path / "index"), index)
    assert index.metadata.to_pydict() == {n: column.to_pylist() for n, column in COLUMNS.items()}
    report = CodeIndex.verify(tmp_path / "index")
    assert (report.num_items, report.layout, report.id_type) == (3, LAYOUT, index.id_type)


def test_only_the_columns_asked_for_are_loaded(tmp_path):
    index_of(make_items(10)).save(tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index", ["tags"]).metadata.column_names == ["tags"]
    assert CodeIndex.load(tmp_path / "index", []).metadata.num_columns == 0
    with pytest.raises(ValueError, match=r"\['label', 'tags'\]. Received: \['label', 'path'\]"):
        CodeIndex.load(tmp_path / "index", ["label", "path"])


@pytest.mark.parametrize(
    ("num_codewords", "dtype", "stored"),
    [
        (256, "uint8", "00 ff"),
        (257, "uint16", "0000 ff00"),
        (2**16, "uint16", "0000 ff00"),
        (2**16 + 1, "int32", "00000000 ff000000"),
    ],
)
def test_codes_are_as_small_as_the_codebooks_allow_and_stored_little_endian(
    tmp_path, num_codewords, dtype, stored
):
    layout = CodeLayout(np.int64(2), num_codewords, "ab")
    assert layout.code_dtype == dtype
    CodeIndex(layout, [[0, 255]], [7]).save(tmp_path / "index")
    table = pq.read_table(tmp_path / "index" / PART)
    assert table["code"].to_pylist() == [bytes.fromhex(stored)]


def test_manifest_says_what_the_parts_hold(tmp_path):
    index_of(make_items(10)).save(tmp_path / "index")
    part = tmp_path / "index" / PART
    assert json.loads((tmp_path / "index" / "manifest.json").read_text()) == {
        "format_version": 1,
        "fingerprint": LAYOUT.fingerprint,
        "code_length": 2,
        "num_codewords": 256,
        "code_dtype": "uint8",
        "num_items": 10,
        "id_type": "int64",
        "metadata_columns": {"label": "int64", "tags": "list<string>"},
        "parts": [
            {
                "name": PART,
                "rows": 10,
                "bytes": part.stat().st_size,
                "sha256": sha256_of_file(part),
                "id_range": [0, 9],
            }
        ],
    }


@pytest.mark.parametrize("step", [3, 10])
def test_parts_have_their_rows_and_names_however_items_come(tmp_path, step):
    index = index_of(make_items(10))
    with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=4) as writer:
        for start in range(0, 10, step):
            rows = slice(start, start + step)
            codes, ids = index.codes[rows].copy(), index.ids[rows].copy()
            writer.append(codes, ids, index.metadata.slice(start, step))
            assert writer.num_items == min(10, start + step)
            codes[:], ids[:] = 0, 0  # The caller may use its arrays again.
    parts = sorted((tmp_path / "index").glob("*.parquet"))
    assert [part.name for part in parts] == [f"part-{n:05d}-of-00003.parquet" for n in range(3)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [4, 4, 2]
    assert_same(CodeIndex.load(tmp_path / "index"), index)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "'ids' must hold values of type int64. Received: string",
         (CODES, ["a", "b"], {"label": [0, 1]})),
        (ValueError, r"must have the columns \['label'\]. Received: \[\]", (CODES, [3, 4], {})),
        (TypeError, "'label' must hold values of type int64. Received: double",
         (CODES, [3, 4], {"label": [1.5, 2]})),
        (ValueError, r"code_length=2. Received: shape \[2, 1\]", (CODES[:, :1], [3, 4], {})),
        (TypeError, "codes must be integers. Received: dtype float32",
         (CODES.astype("float32"), [3, 4], {"label": [1, 2]})),
        (ValueError, "Received: values from 0 to 256", ([[0, 256]], [3], {"label": [1]})),
        (ValueError, "Received: values from -1 to 0", ([[0, -1]], [3], {"label": [1]})),
    ],
)  # fmt: skip
def test_append_that_does_not_fit_is_refused_and_adds_nothing(tmp_path, error, message, arguments):
    with pytest.raises(error, match=message):
        with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=1) as writer:
            writer.append(CODES, [1, 2], {"label": [0, 1]})
            writer.append(*arguments)
    assert writer.num_items == 2
    assert names_in(tmp_path) == []


def test_a_text_column_may_be_missing_in_all_of_the_first_items(tmp_path):
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        writer.append(CODES, [1, 2], {"colour": np.array([None, None], object)})
        writer.append(CODES, [3, 4], {"colour": np.array(["red", None], object)})
    metadata = CodeIndex.load(tmp_path / "index").metadata
    assert metadata["colour"].to_pylist() == [None, None, "red", None]


def test_append_outside_the_block_is_refused(tmp_path):
    writer = CodeIndexWriter(tmp_path / "index", LAYOUT)
    with pytest.raises(RuntimeError, match="inside the with block"):
        writer.append(CODES, [1, 2])
    with writer:
        writer.append(CODES, [1, 2])
    with pytest.raises(RuntimeError, match="a closed writer"):
        writer.append(CODES, [3, 4])


def test_id_given_twice_to_the_writer_is_named_on_reading(tmp_path):
    with CodeIndexWriter(tmp_path / "index", LAYOUT) as writer:
        writer.append(CODES, ["a", "é"])
        writer.append(CODES, ["c", "é"])
    for read in (CodeIndex.load, CodeIndex.verify):
        with pytest.raises(ValueError, match="unique. Received: the id 'é' 2 times"):
            read(tmp_path / "index")


def test_existing_index_is_replaced_only_on_demand_and_other_things_never(tmp_path):
    path, index = tmp_path / "index", CodeIndex(LAYOUT, CODES, [1, 2])
    index_of(make_items(3)).save(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        index.save(path)
    index.save(path, overwrite=True)
    assert len(CodeIndex.load(path)) == 2
    (path / "bird.jpg").touch()
    with pytest.raises(FileExistsError, match=r"also holds 'bird\.jpg'"):
        index.save(path, overwrite=True)
    assert (path / "bird.jpg").exists()


def test_codes_and_ids_are_taken_without_a_copy_and_cannot_be_written():
    codes, ids = np.zeros((3, 2), np.uint8), np.arange(3)
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
def test_integers_and_strings_come_in_every_form(ids, expected):
    index = CodeIndex(LAYOUT, CODES, ids, {"label": ids})
    assert index.ids.tolist() == index.metadata["label"].to_pylist() == expected
    assert index.id_type == ("string" if isinstance(expected[0], str) else "int64")


@pytest.mark.parametrize(
    ("ids", "metadata", "message"),
    [
        ([5, 5], None, "unique. Received: the id 5 2 times"),
        ([5], None, "'id' must have one value for each of the 2 codes. Received: 1"),
        ([1, -1], None, "leave -1 free"),
        (["a", ""], None, "leave '' free"),
        (["a", None], None, "Received: 1 missing ids"),
        ([1.0, 2.0], None, "'ids' must hold values of type int64. Received: double"),
        (["a", 1], None, "'ids' must hold values of one type. Received"),
        (np.array([1, 2**63], np.uint64), None, "type int64. Received: "),
        ([1, 2], {"n": np.array([1, 2**63], np.uint64)}, "'n' must hold values of type int64"),
        ([1, 2], {"id": [1, 2]}, "other than '', 'id' and 'code'. Received: 'id'"),
        ([1, 2], {"label": [1]}, "'label' must have one value for each of the 2 codes"),
        ([1, 2], {"label": np.zeros((2, 2))}, "'label' must hold .*1-dimensional"),
        ([1, 2], {"label": [[1], [2]]}, "'label' must hold bool, int, .* Received: list<item: int"),
        ([1, 2], {"time": np.zeros(2, "M8[ns]")}, "'time' must hold bool.* Received: datetime64"),
        ([1, 2], [1, 2], "metadata must map column names to sequences. Received: list"),
    ],
)
def test_ids_and_metadata_that_cannot_be_are_refused(ids, metadata, message):
    with pytest.raises((TypeError, ValueError), match=message):
        CodeIndex(LAYOUT, CODES, ids, metadata)


def test_index_of_another_network_is_refused():
    index = CodeIndex(LAYOUT, CODES, [1, 2])
    index.require_layout(LAYOUT)
    message = "fingerprint cdcdcdcdcdcd.*: an index built with other codebooks.*abababababab"
    with pytest.raises(ValueError, match=message):
        index.require_layout(CodeLayout(2, 256, "cd" * 32))
    with pytest.raises(ValueError, match="num_codewords=16. Received: an index with code_length=2"):
        index.require_layout(CodeLayout(8, 16, LAYOUT.fingerprint))


def test_neighbouring_items_load_as_from_the_whole_and_other_parts_are_not_opened(
    tmp_path,
):
    whole = index_of(make_items(11))
    with CodeIndexWriter(tmp_path / "index", LAYOUT, rows_per_part=4) as writer:
        writer.append_table(whole.table)
    for start in range(12):
        for stop in range(start, 13):
            part = CodeIndex.load(tmp_path / "index", positions=range(start, stop))
            assert part.table.equals(whole.table.slice(start, stop - start))
    damaged = tmp_path / "index" / "part-00001-of-00003.parquet"
    damaged.write_bytes(damaged.read_bytes()[::-1])
    for positions in (range(0, 4), range(8, 11)):
        assert len(CodeIndex.load(tmp_path / "index", positions=positions)) == len(positions)
    with pytest.raises(ValueError, match="torn, changed"):
        CodeIndex.load(tmp_path / "index", positions=range(0, 5))
