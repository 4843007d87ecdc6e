"""Commands that tend a collection: what they do, print and refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.training.tiny import make_images, make_network
from tfpqn.cli import collections
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout, build_index
from tfpqn.training import Run, RunConfig

LAYOUT = CodeLayout(2, 256, "ab" * 32)


def run(*arguments: Any) -> Result:
    """Runs a command, as the entry point would: errors come through."""
    app = typer.Typer(pretty_exceptions_enable=False)
    for command in ("remove", "compact", "compat", "calibrate"):
        app.command()(getattr(collections, command))
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write_index(path: Path, ids: list[Any]) -> Path:
    with CodeIndexWriter(path, LAYOUT, rows_per_part=1) as writer:
        writer.append(np.zeros((len(ids), 2), np.uint8), ids)
    return path


@pytest.mark.parametrize("ids", [[7, 8, 9, -3], ["7", "8", "9", "-3"]], ids=["int64", "string"])
def test_items_are_removed_by_ids_of_either_type(tmp_path: Path, ids: list[Any]) -> None:
    path = write_index(tmp_path / "index", ids)
    result = run("remove", "--index", path, 8, "--", -3)
    assert result.exit_code == 0
    assert "2 items removed, 2 left in" in result.output
    assert CodeIndex.load(path).ids.tolist() == [ids[0], ids[2]]


def test_ids_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = write_index(tmp_path / "index", [7, 8])
    with pytest.raises(ValueError, match="1 unknown ids, the first being 9"):
        run("remove", "--index", path, 7, 9)
    with pytest.raises(ValueError, match=r"must be whole numbers.*Received: \['7', 'seven'\]"):
        run("remove", "--index", path, 7, "seven")
    assert len(CodeIndex.load(path)) == 2
    with pytest.raises(FileNotFoundError, match="folder of an index"):
        run("compact", "--index", tmp_path / "none")


def test_compaction_says_what_became_of_the_files(tmp_path: Path) -> None:
    path = write_index(tmp_path / "index", list(range(5)))
    output = run("compact", "--index", path, "--rows-per-part", 3).output
    assert "5 items: 5 files of" in output
    assert "became 2 files of" in " ".join(output.split())
    assert CodeIndex.verify(path).num_parts == 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on digits whose networks differ in nothing but their codebooks."""
    config = RunConfig(bits=16, embedding_dim=16, epochs=1)
    folders = []
    for shift in (0, 1):
        folder = tmp_path_factory.mktemp("runs") / "run"
        network = config.build_network((8, 8, 1), 10)
        codebooks = network.quantizer.codebooks
        codebooks.assign(np.roll(np.array(codebooks), shift, axis=1))
        network.optimizer.build(network.trainable_variables)
        network.save(Run.start(folder, config).folder / "network.keras")
        folders.append(folder)
    return folders


def test_compatibility_is_a_table_and_a_sentence_or_json(runs: list[Path]) -> None:
    output = " ".join(run("compat", *runs).output.split())
    assert "Codebooks: others. Re-encoding is due" in output
    report = json.loads(run("compat", runs[0], runs[0], "--json").output)
    assert report["same_codebooks"] and not report["reencoding_due"]
    assert f"{report['mAP']['old_queries_old_codes']:.4f}" in output


def test_calibration_is_printed_and_kept(runs: list[Path]) -> None:
    result = run("calibrate", "--run-dir", runs[0], "--precision", 0.05, "--top-k", 3)
    kept = Run.open(runs[0]).read_calibration()
    assert (kept["precision"], kept["top_k"], kept["protocol"]) == (0.05, 3, "digits")
    output = " ".join(result.output.split())
    assert f"score of {kept['score_threshold']:.6g} or more" in output
    assert f"{kept['held_out']['recall']:.4f}" in output
    again = json.loads(run("calibrate", "--run-dir", runs[0], "--precision", 0.05, "--json").output)
    assert again["top_k"] == 10
    with pytest.raises(ValueError, match="above 0 and at most 1. Received: 2"):
        run("calibrate", "--run-dir", runs[0], "--precision", 2)


def test_grown_index_can_be_shrunk_again(tmp_path: Path) -> None:
    images = make_images(12)
    build_index(make_network(), images, tmp_path / "index")
    run("remove", "--index", tmp_path / "index", *range(6, 12))
    index = CodeIndex.load(tmp_path / "index")
    assert index.ids.tolist() == list(range(6))
    assert index.metadata["label"].to_pylist() == images.labels[:6].tolist()
