"""Whatever is wrong with a file of others, its reader gets one sentence that names it."""

import struct

import pytest

from tfpqn.files.foreign import read_json, reading


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe{", b"[" * 100_000, b'{"a": ' * 100_000, b"9" * 5000]
    + [b'{"a": NaN}', b'{"a": 1e999}', b'{"a": -Infinity}'],
)
def test_what_is_no_json_object_of_finite_numbers_is_refused_by_name(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json' must be the record of a run.*Received: "):
        read_json(path, "the record of a run")


def test_json_is_read_as_it_stands(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"a": [1, -2.5, null, "ä"]}', encoding="utf-8")
    assert read_json(path, "a record") == {"a": [1, -2.5, None, "ä"]}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("a"), "KeyError 'a'"),
        (RecursionError(), "RecursionError"),
        (MemoryError("2 GB"), "MemoryError 2 GB"),
        (struct.error("short"), "error short"),
        (OSError("no\n HDF5 "), "no HDF5"),
        (TypeError(), "TypeError"),
    ],
)
def test_any_error_of_a_parser_becomes_one_short_sentence(error, reason):
    expected = f"'folder/file' must be a network, whole and unchanged. Received: {reason}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        with reading("folder/file", "a network"):
            raise error


@pytest.mark.parametrize("error", [ValueError("folder/file is torn"), ImportError("h5py")])
def test_what_is_clear_already_stays_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        with reading("folder/file", "a network"):
            raise error
    assert caught.value is error


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "run.json", "a record")
