"""The command line: what it does, what it prints, and how it refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tfpqn import __version__
from tfpqn.cli import main
from tfpqn.datasets import load_protocol

SMALL = ("--bits", "16", "--embedding-dim", "16", "--epochs", "1", "--batch-size", "64")


class Result:
    """Exit status and output of one command."""

    def __init__(self, status, output, error):
        self.status, self.output, self.error = status, output, error


@pytest.fixture
def tfpqn(monkeypatch, capsys):
    """Runs a command in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tfpqn", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        output, error = capsys.readouterr()
        return Result(stop.value.code, output, error)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run, its index, a model and a query image."""
    from tfpqn.export import Searcher, save_searcher
    from tfpqn.index import CodeIndex, build_index
    from tfpqn.training import Run, RunConfig, train

    folder = tmp_path_factory.mktemp("cli")
    config = RunConfig(protocol="digits", bits=16, embedding_dim=16, epochs=1, batch_size=64)
    splits = config.load_splits()
    network = train(Run.start(folder / "run", config), splits, progress=False)
    build_index(network, splits.database, folder / "index")
    index = CodeIndex.load(folder / "index")
    save_searcher(Searcher(network, index, top_k=3), folder / "models" / "1")
    (folder / "digit.png").write_bytes(splits.query.encoded_image(0))
    (folder / "text.png").write_text("no image")
    return folder


def test_the_version_is_printed(tfpqn):
    result = tfpqn("--version")
    assert (result.status, result.output) == (0, f"tfpqn {__version__}\n")


def test_the_road_from_training_to_a_search(tfpqn, folder, tmp_path):
    run, index, model = tmp_path / "run", tmp_path / "index", tmp_path / "model" / "1"
    for command in (
        ("train", "--protocol", "digits", *SMALL, "--run-dir", run),
        ("evaluate", "--run-dir", run),
        ("index", "--run-dir", run, "--output", index),
        ("export", "--run-dir", run, "--index", index, "--output", model, "--top-k", 4),
    ):
        result = tfpqn(*command)
        assert result.status == 0, result.error
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["protocol"] == "digits"
    assert json.loads((model / "manifest.json").read_text())["metrics"]["mAP"] == metrics["mAP"]
    result = tfpqn("search", "--model", model, folder / "digit.png", "--json")
    (answer,) = json.loads(result.output)
    scores = [neighbour["score"] for neighbour in answer["neighbours"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_lists_are_tuned_with_the_runs_own_queries(tfpqn, folder, tmp_path):
    model = tmp_path / "model" / "1"
    arguments = ("--run-dir", folder / "run", "--index", folder / "index", "--output", model)
    result = tfpqn("export", *arguments, "--partition", 8, "--agreement", 0.9)
    assert result.status == 0, result.error
    storage = json.loads((model / "manifest.json").read_text())["storage"]
    assert storage["tuned_with"] == "queries"
    sentence = f"A search looks at {storage['num_probes']} of {storage['num_lists']} lists and"
    assert sentence in " ".join(result.output.split())
    assert tfpqn("verify", model).status == 0


def test_a_recipe_trains_as_its_row_says(tfpqn, tmp_path, monkeypatch):
    from tfpqn.training import Run, RunConfig
    from tfpqn.training.recipes import Recipe, Table, tables

    config = RunConfig.plain(bits=16, embedding_dim=16, epochs=1, batch_size=64)
    rows = (Recipe("pqn-16", "PQN", config),)
    monkeypatch.setattr(tables, "TABLES", {"tiny": Table("tiny", "", "", ("digits",), rows)})
    result = tfpqn("train", "--recipe", "tiny/pqn-16", "--seed", 5, "--run-dir", tmp_path / "run")
    assert result.status == 0, result.error
    assert Run.open(tmp_path / "run").config == rows[0].config_of(5)


def test_search_prints_a_table_for_people(tfpqn, folder):
    result = tfpqn("search", "--model", folder / "models" / "1", folder / "digit.png")
    assert result.status == 0
    assert "rank" in result.output and "score" in result.output


def test_training_again_with_the_same_settings_keeps_the_network(tfpqn, tmp_path):
    command = ("train", *SMALL, "--run-dir", tmp_path)
    assert tfpqn(*command).status == 0
    before = (tmp_path / "network.keras").read_bytes()
    assert tfpqn(*command).status == 0
    assert (tmp_path / "network.keras").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "Missing option '--run-dir'"),
        (["train", "--run-dir", "{new}", "--bits", "23"], "bits must be a positive multiple"),
        (["train", "--run-dir", "{new}", "--backbone", "foo"], "Expected one of ['conv3', "),
        (["train", "--run-dir", "{new}", "--protocol", "foo"], "Expected one of ['digits', "),
        (
            ["train", "--run-dir", "{new}", "--model", "foo"],
            "model must be one of ['pqn', 'rpqn', 'tpqn']",
        ),
        (["train", "--run-dir", "{new}", "--images", "{new}-photos"], "image folder must exist"),
        (
            ["train", "--run-dir", "{new}", "--protocol", "cifar10-5k", "--data-dir", "{new}"],
            "Get it once with",
        ),
        (["train", "--run-dir", "{folder}/run", "--bits", "8"], "bits=16 -> 8"),
        (
            ["train", "--run-dir", "{new}", "--recipe", "cifar10-p1/published-24", "--bits", "12"],
            "--recipe settles all settings. Received: --bits as well",
        ),
        (
            ["train", "--run-dir", "{new}", "--recipe", "cifar10-p1/embedding-pq-24"],
            "needs --initial-run, a run of 'embedding-tuned'. Received: None",
        ),
        (["train", "--run-dir", "{new}", "--recipe", "pqn-24"], "must be named TABLE/ROW"),
        (
            [
                "train",
                "--run-dir",
                "{new}",
                "--recipe",
                "cifar10-p1/published-24",
                "--initial-run",
                "a",
            ],
            "needs no --initial-run",
        ),
        (
            [
                "train",
                "--run-dir",
                "{new}",
                "--recipe",
                "cifar10-p1/published-24",
                "--weights",
                "a.h5",
            ],
            "'cifar10-p1/published-24' starts from no weights. Received: 'a.h5'",
        ),
        (
            [
                "train",
                "--run-dir",
                "{new}",
                "--recipe",
                "cifar10-p1/published-24",
                "--set",
                "cutout=4",
            ],
            "--recipe settles all settings. Received: --set as well",
        ),
        (
            ["train", "--run-dir", "{new}", "--set", "epochs=4"],
            "--set is for settings without an option; epochs has one: --epochs.",
        ),
        (["evaluate", "--run-dir", "{new}"], "The run folder must hold run.json"),
        (["index", "--run-dir", "{folder}/run", "--output", "{folder}/index"], "--overwrite"),
        (
            ["export", "--run-dir", "{folder}/run", "--index", "{new}", "--output", "{new}/1"],
            "manifest",
        ),
        (
            ["export", "--run-dir", "{folder}/run", "--index", "{folder}/index"]
            + ["--output", "{folder}/models/1"],
            "must be a new version",
        ),
        (
            ["export", "--run-dir", "{folder}/run", "--index", "{folder}/index"]
            + ["--output", "{new}/1", "--partition", "many"],
            "--partition must be a number of lists, or auto. Received: 'many'",
        ),
        (
            ["export", "--run-dir", "{folder}/run", "--index", "{folder}/index"]
            + ["--output", "{new}/1", "--exact"],
            "need lists: give partition",
        ),
        (
            ["search", "--model", "{folder}/models/1", "{folder}/none.png"],
            "A query must be an image file",
        ),
        (
            ["train", "--initial-run", "{folder}/none", "--run-dir", "{new}/run"],
            "The run folder must hold run.json",
        ),
        (["train", "--run-dir", "{new}/run", "--evaluate-every", "0"], "evaluate-every"),
        (["train", "--run-dir", "{new}/run", "--checkpoint-every", "0"], "checkpoint-every"),
        (["search", "--model", "{folder}/models/2", "{folder}/digit.png"], "version folder"),
        (
            ["search", "--model", "{folder}/models/1", "{folder}/text.png"],
            "text.png: expected the bytes of a JPEG",
        ),
    ],
)
def test_a_user_error_is_one_line_and_status_2(tfpqn, folder, tmp_path, arguments, sentence):
    new = tmp_path / "new"
    result = tfpqn(*(a.format(new=new, folder=folder) for a in arguments))
    assert result.status == 2
    assert result.error.startswith("tfpqn: error: ")
    assert sentence in result.error
    assert result.error.count("\n") == 1


def test_a_backend_that_is_not_there_is_a_user_error():
    environment = {**os.environ, "KERAS_BACKEND": "abacus"}
    command = [sys.executable, "-m", "tfpqn", "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tfpqn: error: Keras must have a backend that is installed")
    assert "Received: 'abacus'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_index_of_another_network_is_refused(tfpqn, folder, tmp_path):
    assert tfpqn("train", *SMALL, "--seed", 1, "--run-dir", tmp_path / "run").status == 0
    result = tfpqn(
        *("export", "--run-dir", tmp_path / "run", "--index", folder / "index"),
        *("--output", tmp_path / "models" / "1"),
    )
    assert result.status == 2
    assert "other codebooks" in result.error
    assert not (tmp_path / "models" / "1").exists()


def test_a_fault_of_ours_is_not_passed_off_as_the_users(monkeypatch):
    def fail(**_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys, "argv", ["tfpqn"])
    monkeypatch.setattr("tfpqn.cli.entry_point.app", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main()


def test_files_that_cannot_be_read_are_counted_and_named(tfpqn, folder, tmp_path):
    photos = tmp_path / "photos" / "zero"
    photos.mkdir(parents=True)
    images = load_protocol("digits").load().query
    for position in range(3):
        (photos / f"{position}.png").write_bytes(images.encoded_image(position))
    (photos / "broken.png").write_bytes(b"\x89PNG broken")
    (photos / "phone.heic").touch()
    result = tfpqn(
        *("index", "--run-dir", folder / "run", "--images", photos.parent),
        *("--output", tmp_path / "index"),
    )
    assert result.status == 0
    assert "3 items coded" in result.output
    assert "1 files of other kinds were passed over: 1 .heic" in result.error
    assert "Skipped 1 files" in result.error
    assert "zero/broken.png" in result.error


def test_the_names_of_label_folders_are_tags_to_filter_by_and_labels_of_results(
    tfpqn, folder, tmp_path
):
    from tfpqn.export import load_searcher

    images = load_protocol("digits").load().query
    for position, name in enumerate(("cat", "dog", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "photos" / name / f"{position}.png"
        path.write_bytes(images.encoded_image(position))
    index, model = tmp_path / "index", tmp_path / "models" / "1"
    run = ("--run-dir", folder / "run")
    for command in (
        ("index", *run, "--images", tmp_path / "photos", "--output", index),
        ("export", *run, "--index", index, "--output", model, "--tags", "label"),
    ):
        result = tfpqn(*command)
        assert result.status == 0, result.error
    assert "2 tags to filter by, such as label=cat, label=dog" in result.output
    tags = {"allow_tags": [["label=cat"]], "deny_tags": [[""]]}
    inputs = {"images": [images.encoded_image(0)], **tags}
    found = load_searcher(model).run("search_with_filters", inputs)["ids"][0].tolist()
    assert sorted(found[:3]) == [b"", b"cat/0.png", b"cat/2.png"]
    # A collection of three items has no more rows than these.
    result = tfpqn("search", "--model", model, folder / "digit.png", "--json")
    neighbours = json.loads(result.output)[0]["neighbours"]
    assert len(neighbours) == 3
    assert all(item["label"] == item["id"].partition("/")[0] for item in neighbours)


def test_a_run_is_evaluated_and_calibrated_on_a_folder(tfpqn, folder, tmp_path):
    run, photos = shutil.copytree(folder / "run", tmp_path / "run"), tmp_path / "photos"
    images = load_protocol("digits").load().query
    for position in range(80):
        path = photos / str(images.labels[position]) / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    for command, file in (
        (("evaluate",), "metrics.json"),
        (("calibrate", "--precision", 0.01), "calibration.json"),
    ):
        result = tfpqn(*command, "--run-dir", run, "--images", photos)
        assert (result.status, result.error) == (0, "")
        assert json.loads((run / file).read_text())["protocol"] == str(photos)
    wrong = tfpqn("evaluate", "--run-dir", run, "--videos", photos)
    assert wrong.status == 2
    assert "whose items are clips" in wrong.error


@pytest.mark.slow
@pytest.mark.parametrize(("model", "floor"), [("pqn", 0.95), ("rpqn", 0.95), ("tpqn", 0.5)])
def test_the_demo_reaches_its_figures_and_draws(tfpqn, tmp_path, model, floor):
    result = tfpqn("demo", "--model", model, "--output", tmp_path)
    assert result.status == 0, result.error
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["bits_per_code"] == 24
    assert len(metrics["prefixes"]) == (2 if model == "rpqn" else 0)
    assert metrics["mAP"] >= floor
    assert metrics["mAP"] >= metrics["raw_embeddings"]["mAP"] - 0.02
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models" / "digits" / "1" / "saved_model.pb").is_file()


def test_right_neighbours_are_framed_green_and_wrong_ones_red(tmp_path):
    from PIL import Image, ImageColor

    from tfpqn.cli.picture import RIGHT_COLOUR, WRONG_COLOUR, Item, draw_neighbours

    pixels = np.zeros((8, 8, 1), np.uint8)

    def count(is_right, colour):
        rows = [[Item(pixels, None), Item(pixels, is_right)]] * 2
        picture = np.asarray(Image.open(draw_neighbours(rows, tmp_path / "picture.png", "title")))
        return int((picture == ImageColor.getrgb(colour)).all(axis=-1).sum())

    assert count(True, RIGHT_COLOUR) > 100
    assert count(True, WRONG_COLOUR) == 0
    assert count(False, WRONG_COLOUR) > 100
