"""Laws of `python -m research`."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from research import reports, tables
from research.commands import main
from research.table import Table
from tfpqn.training import RunConfig
from tfpqn.training.recipes import Recipe

DOCS = Path(__file__).parents[2] / "docs"


class Result(NamedTuple):
    status: Any
    output: str
    error: str


@pytest.fixture
def research(monkeypatch, capsys):
    """Runs the command in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["research", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return Result(stop.value.code, *capsys.readouterr())

    return run


def test_rows_of_a_table_are_listed_and_run_again(research, tmp_path, monkeypatch):
    config = RunConfig.of(bits=16, embedding_dim=16, epochs=1, batch_size=64)
    row = Recipe("pqn-16", "PQN", config, published=0.5)
    table = Table("tiny", "Digits", "About the digits.", ("digits",), (row,))
    monkeypatch.setattr(tables, "TABLES", {"tiny": table})
    listing = research("tiny", "--list")
    assert "pqn-16" in listing.output and not (tmp_path / "results").exists()
    folders = ("--runs-dir", tmp_path / "runs", "--results-dir", tmp_path / "results")
    result = research("tiny", "--rows", "pqn-16", "--seed", 3, *folders)
    assert result.status == 0, result.error
    record = json.loads((tmp_path / "results" / "tiny" / "pqn-16-3.json").read_text())
    page = (tmp_path / "results.md").read_text()
    assert f"| PQN | {record['metrics']['digits']['mAP']:.4f} |" in page
    (tmp_path / "results.md").unlink()
    assert research("tiny", "--report", *folders).status == 0
    assert (tmp_path / "results.md").read_text() == page
    # Before any training.
    (tmp_path / "results" / "tiny" / "pqn-16-4.json").write_text("{")
    result = research("tiny", "--rows", "pqn-16", "--seed", 5, *folders)
    assert result.status == 2 and "pqn-16-4.json must be a record" in result.error
    assert not (tmp_path / "runs" / "tiny" / "pqn-16-5").exists()


def test_the_page_of_results_is_what_the_records_make(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "draw_table", lambda *arguments: None)
    reports.write_report(list(tables.TABLES.values()), DOCS / "results", tmp_path / "results.md")
    made, page = (folder / "results.md" for folder in (tmp_path, DOCS))
    assert made.read_text() == page.read_text(), "write it anew: python -m research --report"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar"], "Unknown table. Expected one of ['cifar10-p1'"),
        (["cifar10-p1", "--rows", "pqn-25"], "Unknown row of cifar10-p1"),
        (["cifar10-p1", "--report", "--results-dir", "no"], "must be a folder of records"),
    ],
)
def test_what_cannot_be_run_is_one_line(research, arguments, words):
    result = research(*arguments)
    assert result.status == 2
    assert words in result.error and result.error.count("\n") == 1
