"""The benchmark of large exports measures every stage and tells what more items take."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "large_export.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
]


def test_every_stage_is_measured_and_the_formula_follows(tmp_path):
    output = tmp_path / "large.json"
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--items", "200000", "--output", output],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    content = json.loads(output.read_text())
    rows = {row["stage"]: row for row in content["results"]}
    assert list(rows) == ["index", "export", "load, SavedModel", "load, session"]
    # A code of 8 bytes and an id of 8; ids in a row are compressed in the index.
    assert 15.5 < rows["export"]["bytes_per_item"]["size_mb"] < 17
    assert 8 < rows["index"]["bytes_per_item"]["size_mb"] < 17
    for row in rows.values():
        assert row["peak_mb"] >= row["resident_mb"] > 0 < row["seconds"]
        for name, (less, more) in row["foretold_gb"].items():
            base = content["base"][row["stage"]][name] / 1024
            assert (more - base) == pytest.approx(10 * (less - base))
    assert "| export: on disk |" in finished.stdout
