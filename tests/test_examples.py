"""The examples run at small size, from files as a user has them."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.lite0 import write_photos, write_weights
from tfpqn.datasets import load_protocol

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
    output = run(tmp_path, "photos.py", photos, weights)
    assert "bytes a photo" in output and "of the labels" in output
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


@pytest.mark.slow
def test_a_backbone_of_keras_applications(tmp_path):
    import keras

    photos = write_photos(tmp_path / "photos")
    net = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None)
    net.save_weights(tmp_path / "net.weights.h5")
    output = run(tmp_path, "keras_applications.py", photos, "MobileNetV2", "net.weights.h5")
    assert "1280 features" in output


@pytest.mark.slow
def test_clips_of_video_files(tmp_path):
    pytest.importorskip("av")
    clips = load_protocol("moving-digits").load().train
    for row in range(80):
        path = tmp_path / "clips" / clips.label_names[clips.labels[row]] / f"{row}.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        first, *others = (Image.open(io.BytesIO(frame)) for frame in clips.encoded_frames(row))
        first.save(path, save_all=True, append_images=others)
    assert "of the labels" in run(tmp_path, "clips.py", "clips")


@pytest.mark.slow
def test_vectors_of_a_jax_function(tmp_path):
    pytest.importorskip("jax")
    lines = run(tmp_path, "jax_encoder.py").splitlines()
    assert [line.split()[:3:2] for line in lines] == [["a", "finds"]] * 3


def read_notebook():
    return json.loads((ROOT / "examples" / "first_search.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_is_committed_without_outputs():
    cells = [cell for cell in read_notebook()["cells"] if cell["cell_type"] == "code"]
    assert cells and not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    cells = [cell for cell in read_notebook()["cells"] if cell["cell_type"] == "code"]
    program = "\n".join("".join(cell["source"]) for cell in cells)
    (tmp_path / "notebook.py").write_text(program, encoding="utf-8")
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert "by raw embeddings" in run(tmp_path, tmp_path / "notebook.py")
