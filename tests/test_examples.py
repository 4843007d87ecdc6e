"""The examples run at small size, from files as a user has them."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.lite0 import write_photos, write_weights

ROOT = Path(__file__).parent.parent


def run(folder, name, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_vectors_of_a_file_are_served_and_find_themselves(tmp_path):
    np.save(tmp_path / "all.npy", np.random.default_rng(0).normal(size=(600, 16)))
    lines = run(tmp_path, "vectors.py", "all.npy", "cosine").splitlines()
    assert [line.split("finds [")[1].split()[0] for line in lines] == ["0", "1", "2"]


@pytest.mark.slow
def test_photos_in_folders_and_with_several_labels_are_trained_on_and_measured(tmp_path):
    photos, weights = write_photos(tmp_path / "photos"), write_weights(tmp_path / "lite0.npz")
    assert "bytes a photo" in run(tmp_path, "photos.py", photos, weights)
    with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label"])
        for path in sorted(photos.rglob("*.png")):
            kind = path.parent.name
            rows.writerow([path.relative_to(photos).as_posix(), f"{kind}|{kind < 'c'}"])
    output = run(tmp_path, "several_labels.py", photos, tmp_path / "labels.csv", weights)
    assert output.startswith("6 labels") and "NDCG@10" in output


@pytest.mark.slow
def test_two_towers_find_movies_in_both_shapes(tmp_path):
    lines = run(tmp_path, "two_tower.py").splitlines()
    recalls = {line.split(":")[0]: float(line.split()[1]) for line in lines if "of the 10" in line}
    assert set(recalls) == {"numbers", "strings"} and min(recalls.values()) > 0.4
