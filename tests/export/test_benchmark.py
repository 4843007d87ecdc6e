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
SIZES = "--sizes 3000 --queries 1 2 --top-k 5 --repeats 2 --lists 32 --curve-items 3000"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
    pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs faiss"),
]


def run_script(*options: Any) -> None:
    finished = subprocess.run(
        [sys.executable, SCRIPT, *map(str, options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The JSON of three runs, each of which adds to it."""
    path = tmp_path_factory.mktemp("benchmark") / "search.json"
    run_script("--scenarios", "clustered", *SIZES.split(), "--output", path)
    run_script("--scenarios", "random", *SIZES.split(), "--output", path)
    run_script("--profile", *SIZES.split(), "--output", path)
    return path


def test_a_run_adds_to_what_is_there_and_names_no_folder_of_this_machine(output):
    content = json.loads(output.read_text())
    assert set(content["scenarios"]) == {"clustered", "random"}
    assert all(set(sizes) == {"3000"} for sizes in content["scenarios"].values())
    assert str(output.parent) not in output.read_text()
    assert str(SCRIPT.parent) not in output.read_text()


def test_every_engine_is_timed_beside_its_peer(output):
    scenarios = json.loads(output.read_text())["scenarios"]
    case = scenarios["clustered"]["3000"]
    own = {"ours-exhaustive", "ours-partitioned"}
    theirs = {"faiss-pq", "faiss-fastscan", "faiss-ivfpq", "brute-force"}
    assert [result["queries"] for result in case["results"]] == [1, 2]
    for result in case["results"]:
        assert set(result["engines"]) == own | theirs
        for name, times in result["engines"].items():
            lower, median, upper = times["quartiles_ms"]
            assert 0 < lower <= median <= upper
            assert ("ratio" in times) == (name in own)
    assert set(case["folders"]) == own
    assert "ours-c-api" in scenarios["random"]["3000"]["results"][0]["engines"]
    assert case["not_measured"]["scann"].startswith("not measured: ")


def test_the_engines_find_the_same_items(output):
    scenarios = json.loads(output.read_text())["scenarios"]
    for name in ("ours-exhaustive", "ours-c-api", "faiss-pq"):
        assert scenarios["random"]["3000"]["quality"][name]["agreement"] == 1
    case = scenarios["clustered"]["3000"]
    quality = case["quality"]
    assert quality["ours-exhaustive"]["agreement"] == 1
    assert quality["faiss-ivfpq"]["agreement"] >= quality["ours-partitioned"]["agreement"] > 0.9
    assert abs(quality["ours-exhaustive"]["recall"] - quality["faiss-pq"]["recall"]) < 0.01
    for name in ("ours-partitioned", "faiss-ivfpq"):
        curve = [point["agreement"] for point in case["curve"] if point["engine"] == name]
        assert curve == sorted(curve)
        assert curve[-1] > 0.99


def test_the_stages_of_a_request_are_told_apart(output):
    profile = json.loads(output.read_text())["profile"]
    assert all(share > 0 for share in profile["shares"].values())
    assert sum(profile["shares"].values()) == pytest.approx(1)
    assert set(profile["signatures_ms"]) == {"embed", "search_by_embedding", "search"}


def test_page_and_pictures_come_from_the_figures_alone(output, tmp_path):
    run_script("--docs", tmp_path, "--output", output)
    page = (tmp_path / "benchmarks.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        "benchmarks.md",
        "search-agreement.png",
        "search-growth.png",
    }
    rows = [line for line in page.splitlines() if line.startswith(("| 1 |", "| 2 |"))]
    # Six engines and three, for two batch sizes.
    assert len(rows) == 18
    assert f"python benchmarks/search.py --scenarios clustered {SIZES.split(' --top-k')[0]}" in page
