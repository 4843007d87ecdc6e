"""Flips, kills and races, a few of each kind: no wrong answer and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "attacks.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills and forks as POSIX has them")
def test_no_attack_ends_in_a_wrong_answer_or_a_traceback():
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--count", "5"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
