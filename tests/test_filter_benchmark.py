"""The benchmark of filters runs, and our searches in it find the best items that are admitted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "filters.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_filters_miss_nothing_in_the_benchmark(tmp_path):
    output = tmp_path / "filters.json"
    subprocess.run(
        [sys.executable, SCRIPT, "--small", "--output", output],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    content = json.loads(output.read_text())
    own = [row for row in content["filters"] if row["engine"] == "tfpqn"]
    assert {row["queries"] for row in own} == {1, 32}
    assert all(row["agreement"] == 1 for row in own if row["share"] != "100 %")
    assert all(row["bytes_per_id"] < 5 for row in content["ids"])
