"""The benchmark of serving under load runs, and no answer is wrong or missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving_load.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
]


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_no_request_fails_or_is_answered_wrongly_under_load(tmp_path):
    output = tmp_path / "load.json"
    short = ("--items", 2000, "--seconds", 2, "--queries", 16)
    finished = run_script(*short, "--output", output)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    content = json.loads(output.read_text())
    # Two protocols, two signatures, with and without batching.
    assert len(content["results"]) == 8
    for row in content["results"]:
        assert row["errors"] == row["wrong_answers"] == 0
        assert row["requests"] >= content["settings"]["clients"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert str(tmp_path) not in output.read_text()

    table = run_script("--table", "--output", output).stdout.strip().splitlines()
    assert len(table) == 10
    assert table == finished.stdout.strip().splitlines()[-10:]
