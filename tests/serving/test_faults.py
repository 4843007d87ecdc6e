"""The server under faults keeps its laws; the benchmark that does the faults checks them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving_faults.py"
SHORT = "--items 1000 --bodies 500 --seconds 1 --queries 4"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
]


def test_no_fault_reaches_the_neighbours(tmp_path):
    output = tmp_path / "faults.json"
    finished = subprocess.run(
        [sys.executable, SCRIPT, *SHORT.split(), "--output", output],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 9
    for row in rows:
        assert row["passed"] and not row["neighbour_failures"], row
        assert row["neighbour_requests"] > 0
        assert row["rss_mb_max"] <= row["rss_mb_bound"]
    malformed = rows[-1]["statuses"]
    assert malformed["rest 400"] >= 500
    assert set(malformed) <= {"rest 400", "rest 200"}
