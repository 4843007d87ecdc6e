"""Commands that tend a collection and judge its codes: what they do, print and refuse."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from tests.cli.conftest import run_command, succeed
from tfpqn.cli.exporting import LABEL_COLUMNS, has_labels
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout
from tfpqn.training import Run

LAYOUT = CodeLayout(2, 256, "ab" * 32)


def write_index(path, ids):
    with CodeIndexWriter(path, LAYOUT, rows_per_part=1) as writer:
        writer.append(np.zeros((len(ids), 2), np.uint8), ids)
    return path


@pytest.mark.parametrize("ids", [[7, 8, 9, -3], ["7", "8", "9", "-3"]], ids=["int64", "string"])
def test_items_are_removed_by_ids_of_either_type(tmp_path, ids):
    path = write_index(tmp_path / "index", ids)
    result = succeed("remove", "--index", path, 8, "--", -3)
    assert "2 items removed, 2 left in" in result.output
    assert CodeIndex.load(path).ids.tolist() == [ids[0], ids[2]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["remove", "--index", "{index}", 7, 9], "1 unknown ids, the first being 9"),
        (["remove", "--index", "{index}", 7, "seven"], "whole numbers of 64 bits, as the index"),
        (["remove", "--index", "{index}", "0_7"], "whole numbers of 64 bits.*Received: '0_7'"),
        (["remove", "--index", "{index}", 2**63], f"whole numbers of 64 bits.*Received: '{2**63}'"),
        (["compact", "--index", "{index}-none"], "folder of an index"),
    ],
)
def test_ids_and_indexes_that_are_not_there_are_named(tmp_path, arguments, sentence):
    path = write_index(tmp_path / "index", [7, 8])
    result = run_command(*(str(argument).format(index=path) for argument in arguments))
    assert result.status == 2 and re.search(sentence, result.error)
    assert len(CodeIndex.load(path)) == 2


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, False),
        ({"label": [-1, -1]}, False),
        ({"label": [-1, 0]}, True),
        ({"label": [None, 3]}, True),
        ({"label": ["cat", None]}, True),
        ({"labels": [[], None]}, False),
        ({"labels": [[], ["cat", "dog"]]}, True),
    ],
)
def test_an_index_whose_items_have_no_label_shows_none(tmp_path, metadata, expected):
    if "labels" in metadata:
        metadata = {"labels": pa.array(metadata["labels"], pa.list_(pa.string()))}
    CodeIndex(LAYOUT, np.zeros((2, 2), np.uint8), [1, 2], metadata).save(tmp_path / "index")
    found = [column for column in LABEL_COLUMNS if has_labels(tmp_path / "index", column)]
    assert found == [*metadata] * expected


def test_compaction_says_what_became_of_the_files(tmp_path):
    path = write_index(tmp_path / "index", list(range(5)))
    output = succeed("compact", "--index", path, "--rows-per-part", 3).output
    assert "5 items: 5 files of" in output
    assert "became 2 files of" in " ".join(output.split())
    assert len(CodeIndex.verify(path).parts) == 2


def test_compatibility_is_a_table_and_a_sentence_or_json(folder, tmp_path):
    other = shutil.copytree(folder / "run", tmp_path / "other")
    network = Run.open(other).load_network()
    codebooks = network.quantizer.codebooks
    codebooks.assign(np.roll(np.array(codebooks), 1, axis=1))
    network.save(other / "network.keras")
    output = " ".join(succeed("compat", folder / "run", other).output.split())
    assert "Codebooks: others. Re-encoding is due" in output
    report = json.loads(succeed("compat", other, other, "--json").output)
    assert report["same_codebooks"] and not report["reencoding_due"]


def test_calibration_is_printed_and_kept(folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    calibrate = ("calibrate", "--run-dir", run, "--precision", 0.05, "--top-k", 3)
    output = " ".join(succeed(*calibrate).output.split())
    kept = Run.open(run).read_calibration()
    assert (kept["precision"], kept["top_k"], kept["protocol"]) == (0.05, 3, "digits")
    assert f"score of {kept['score_threshold']:.6g} or more" in output
    assert f"{kept['held_out']['recall']:.4f}" in output
