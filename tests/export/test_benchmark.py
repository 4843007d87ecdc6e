"""The benchmark of the search runs: the engines agree, and its page says what was measured."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "search.py"
OPTIONS = "--items 3000 --code-length 3 --num-codewords 16 --top-k 5 --repeats 2"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
    pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs faiss"),
]


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("benchmarks_search", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_benchmark_measures_and_writes_its_page(tmp_path, monkeypatch):
    output, page = tmp_path / "search.json", tmp_path / "benchmarks.md"
    finished = subprocess.run(
        [sys.executable, SCRIPT, *OPTIONS.split(), "--queries", "2", "--output", output],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    content = json.loads(output.read_text())
    (result,) = content["results"]
    # Two ways in, two queries, three turns to warm up and two that count.
    assert result["agreement"]["answers"] == result["agreement"]["same_ids"] == 20
    assert result["agreement"]["largest_score_difference"] < 1e-5
    assert 0 <= result["peak_memory_mb"] < 400
    for times in result["engines"].values():
        assert 0 < times["quartiles_ms"][0] <= times["quartiles_ms"][2]
    assert str(tmp_path) not in output.read_text()

    monkeypatch.syspath_prepend(SCRIPT.parent)
    load_script().write_docs(content, page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| 2 |")]
    assert rows == finished.stdout.strip().splitlines()[-3:]
    assert f"python benchmarks/search.py {OPTIONS}" in page.read_text()
