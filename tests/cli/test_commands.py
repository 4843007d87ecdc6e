"""The command line: what it does, what it prints, and how it refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.cli.conftest import SMALL, run_command, succeed
from tfpqn import __version__
from tfpqn.cli import main
from tfpqn.datasets import load_protocol
from tfpqn.index import CodeIndex


def test_the_version_is_printed():
    assert succeed("--version").output == f"tfpqn {__version__}\n"


def test_the_road_from_training_to_a_search(folder):
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    manifest = json.loads((folder / "models" / "1" / "manifest.json").read_text())
    assert (metrics["protocol"], manifest["metrics"]["mAP"]) == ("digits", metrics["mAP"])
    search = ("search", "--model", folder / "models" / "1", folder / "digit.png")
    (answer,) = json.loads(succeed(*search, "--json").output)
    scores = [neighbour["score"] for neighbour in answer["neighbours"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    table = succeed(*search, "--k", 2).output
    assert "rank" in table and "score" in table
    shown = [f"{neighbour['score']:.4f}" in table for neighbour in answer["neighbours"]]
    assert shown == [score >= scores[1] for score in scores]


def test_training_that_was_stopped_says_where_it_goes_on(folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "network.keras").unlink()
    result = succeed("train", "--protocol", "digits", *SMALL, "--run-dir", run)
    assert "The run goes on after epoch 1.\n" in result.output
    assert (run / "network.keras").is_file()


def test_a_model_without_search_k_says_how_to_get_it(folder, tmp_path):
    model = shutil.copytree(folder / "models" / "1", tmp_path / "1")
    manifest = json.loads((model / "manifest.json").read_text())
    del manifest["signatures"]["search_k"]
    (model / "manifest.json").write_text(json.dumps(manifest))
    result = run_command("search", "--model", model, folder / "digit.png", "--k", 2)
    assert result.status == 2 and "export its index again, or with --top-k 2" in result.error


def test_options_are_the_settings_of_a_run(tmp_path, monkeypatch):
    from tfpqn.training import Run, RunConfig

    def stop(*_):
        raise ValueError("stopped")

    monkeypatch.setattr(Run, "load_splits", stop)
    options = ("--model", "tpqn", "--num-segments", "1,2,5", "--bits", 8, "--no-center-embeddings")
    assert run_command("train", *options, "--run-dir", tmp_path).error.endswith("stopped\n")
    settings = {"model": "tpqn", "num_segments": (1, 2, 5), "bits": 8, "center_embeddings": False}
    assert Run.open(tmp_path).config == RunConfig.of(**settings)
    table = ("--images", "a", "--labels", "b.csv")
    columns = ("--label-column", "size, in cm", "--label-column", "colour")
    run_command("train", *table, *columns, "--run-dir", tmp_path)
    assert Run.open(tmp_path).config.data.label_column == ("size, in cm", "colour")


def test_the_help_of_train_has_each_setting_with_its_default_in_a_panel(monkeypatch):
    from tfpqn.training.settings.run_config import settings_by_name

    monkeypatch.setenv("COLUMNS", "120")
    text = " ".join(succeed("train", "--help").output.split())
    for panel in ("Data", "Model", "Loss", "Optimisation"):
        assert f"─ {panel} ─" in text
    for name, (_, field) in settings_by_name().items():
        assert (f"--{name.replace('_', '-')} " in text) is field.metadata["has_option"]
    assert "[default: (softplus)]" in text


def test_a_recipe_is_a_run_with_the_settings_of_its_row(tmp_path, monkeypatch):
    from tfpqn.training import Run, RunConfig, recipes

    def stop(*_):
        raise ValueError("stopped")

    monkeypatch.setattr(Run, "load_splits", stop)
    rows = (recipes.Recipe("pqn-16", "PQN", RunConfig.plain(bits=16, embedding_dim=16)),)
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": rows})
    run_command("train", "--recipe", "tiny/pqn-16", "--seed", 5, "--run-dir", tmp_path)
    assert Run.open(tmp_path).config == rows[0].config_of(5)


TRAIN = ("train", "--run-dir", "{new}")
RECIPE = (*TRAIN, "--recipe", "cifar10-p1/embedding")
EXPORT = ("export", "--run-dir", "{folder}/run", "--index", "{folder}/index", "--output")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "Missing option '--run-dir'"),
        ([*TRAIN, "--num-segments", "a"], "as in 1,2,4. Received: a"),
        ([*TRAIN, "--evaluate-every", "0"], "evaluate-every"),
        ([*RECIPE, "--bits", "12"], "--recipe settles all settings. Received: --bits as well"),
        ([*RECIPE, "--initial-run", "a"], "needs no --initial-run"),
        ([*RECIPE, "--weights", "a"], "starts from no weights. Received: 'a'"),
        ([*TRAIN, "--recipe", "cifar10-p1/pqn-24"], "a run of 'embedding'"),
        ([*TRAIN, "--recipe", "cifar/pqn-24"], "Unknown table. Expected one of ['cifar10-p1']"),
        ([*TRAIN, "--recipe", "cifar10-p1/pqn"], "Unknown row of cifar10-p1"),
        (["evaluate", "--run-dir", "{new}"], "The run folder must hold run.json"),
        (["evaluate", "--run-dir", "{folder}/run", "--videos", "a"], "whose items are clips"),
        (["report", "--run-dir", "{new}"], "The run folder must hold run.json"),
        (["report", "--run-dir", "{folder}/run", "--output", "{new}/a.txt"], "ends in .html"),
        (["index", "--run-dir", "{folder}/run", "--output", "{folder}/index"], "--overwrite"),
        ([*EXPORT[:3], "--index", "{new}", "--output", "{new}/1"], "manifest"),
        ([*EXPORT, "{new}/1", "--partition", "many"], "number of lists, or auto. Received: 'many'"),
        ([*EXPORT, "{new}/1", "--shards", "0"], "num_shards must be at least 1"),
        (["ingest", *EXPORT[1:], "{new}/a", "--num-frames", "8"], "are of items that come: give"),
        (["search", "--model", "{folder}/models/2", "{folder}/digit.png"], "version folder"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(folder, tmp_path, arguments, sentence):
    result = run_command(*(a.format(new=tmp_path / "new", folder=folder) for a in arguments))
    assert result.status == 2
    assert result.error.startswith("tfpqn: error: ")
    assert sentence in result.error
    assert result.error.count("\n") == 1


@pytest.mark.slow
def test_an_export_in_shards_names_its_folders_and_each_is_whole(folder, tmp_path):
    arguments = ("--run-dir", folder / "run", "--index", folder / "index", "--shards", 2)
    printed = succeed("export", *arguments, "--output", tmp_path / "digits" / "1").output
    paths = [tmp_path / f"digits-shard-{number}-of-2" / "1" for number in range(2)]
    assert printed.splitlines() == ["Exported 1,437 items in 2 shards:", *map(str, paths)]
    for path, num_items in zip(paths, (718, 719), strict=True):
        assert f"{num_items} items" in succeed("verify", path).output
    alone = succeed("search", "--model", paths[1], folder / "digit.png").error
    assert "shard 1 of 2: its answers are of this part" in alone
    readme = (paths[1] / "README.txt").read_text()
    for words in ("digits-shard-1-of-2:/models/digits:ro", "--model-name digits", "shard 1 of 2"):
        assert words in readme


def test_a_backend_that_is_not_there_is_a_user_error():
    environment = {**os.environ, "KERAS_BACKEND": "abacus"}
    command = [sys.executable, "-m", "tfpqn", "evaluate", "--run-dir", "none"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("tfpqn: error: Keras must have a backend that is installed")
    assert "Received: 'abacus'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_fault_of_ours_is_not_passed_off_as_the_users(monkeypatch):
    def fail(**_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys, "argv", ["tfpqn"])
    monkeypatch.setattr("tfpqn.cli.entry_point.app", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main()


def test_a_folder_is_indexed_with_its_labels_as_tags_and_what_it_lacks_is_named(
    folder, photos, tmp_path
):
    from tfpqn.export import load_searcher

    index, model, run = tmp_path / "index", tmp_path / "models" / "1", folder / "run"
    result = succeed(
        "index", "--run-dir", run, "--images", photos, "--output", index, "--keep-embeddings"
    )
    assert "80 items coded" in result.output
    assert "Passed over 1 file of other kinds: 1 .heic" in result.error
    assert "Skipped 1 file that" in result.error and "cat/broken.png" in result.error
    export = ("export", "--run-dir", run, "--index", index, "--output", model, "--tags", "label")
    result = succeed(*export, "--rerank")
    assert "2 tags to filter by, such as label=cat, label=dog" in result.output
    image = load_protocol("digits").load().query.encoded_image(0)
    inputs = {"images": [image], "allow_tags": [["label=cat"]], "deny_tags": [[""]]}
    found = load_searcher(model).run("search_with_filters", inputs)
    assert all(id_.startswith(b"cat/") for id_ in found["ids"][0])
    assert set(found["labels"][0]) == {b"cat"}


def test_a_run_is_evaluated_and_calibrated_on_a_folder(folder, photos, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    for command, file in (
        (("evaluate",), "metrics.json"),
        (("calibrate", "--precision", 0.01, "--json"), "calibration.json"),
    ):
        result = succeed(*command, "--run-dir", run, "--images", photos)
        assert result.error == ""
        assert "--json" not in command or json.loads(result.output)["top_k"] == 10
        assert json.loads((run / file).read_text())["protocol"] == str(photos)


def test_a_run_is_reported_on_as_it_was_evaluated(folder, tmp_path):
    result = succeed("report", "--run-dir", folder / "run", "--output", tmp_path / "report.html")
    assert result.output == f"Written to {tmp_path / 'report.html'}\n"
    mean = json.loads((folder / "run" / "metrics.json").read_text())["mAP"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"codes, 16 bits: {mean:.3f}" in text and "<td>all 360</td>" in text
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "network.keras").write_bytes(b"torn")
    result = run_command("report", "--run-dir", run)
    assert result.status == 2 and result.error.count("\n") == 1
    assert "network.keras" in result.error and not (run / "report.html").exists()


@pytest.mark.slow
def test_lists_are_tuned_with_the_runs_own_queries(folder, tmp_path):
    model = tmp_path / "model" / "1"
    arguments = ("--run-dir", folder / "run", "--index", folder / "index", "--output", model)
    result = succeed("export", *arguments, "--partition", 8, "--agreement", 0.9)
    storage = json.loads((model / "manifest.json").read_text())["storage"]
    assert storage["tuned_with"] == "queries"
    sentence = f"A search looks at {storage['num_probes']} of {storage['num_lists']} lists and"
    assert sentence in " ".join(result.output.split())
    succeed("verify", model)


def test_items_that_a_table_does_not_name_are_indexed_without_a_label(folder, photos, tmp_path):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.glob("*/*.png"))
    # Nor does it name one that is skipped.
    rows = [f"{name},{name[:3]}" for name in names[2:] if "broken" not in name]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    index = ("index", "--run-dir", folder / "run", "--images", photos)
    table = ("--labels", tmp_path / "labels.csv")
    result = succeed(*index, *table, "--output", tmp_path / "index")
    assert "80 items coded" in result.output
    assert result.error.splitlines()[-1] == "Indexed without a label: 2 items"
    labels = CodeIndex.load(tmp_path / "index").metadata["label_name"].to_pylist()
    assert labels[:2] == [None, None] and set(labels[2:]) == {"cat", "dog"}
    (tmp_path / "labels.csv").write_text("file,label\ncat/none.png,cat")
    result = run_command(*index, *table, "--output", tmp_path / "other")
    assert result.status == 2 and "1 of 1 names that it does not have" in result.error


def test_the_table_of_a_run_is_not_taken_for_other_items(folder, photos, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    settings = json.loads(file.read_text())
    settings["data"] |= {"protocol": None, "images": "elsewhere", "labels": "own.csv"}
    file.write_text(json.dumps(settings))
    index = ("index", "--run-dir", tmp_path / "run", "--images", photos)
    with pytest.warns(
        UserWarning, match=r"own.csv, is of other items and not used: labels \(--lab"
    ):
        succeed(*index, "--output", tmp_path / "index")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "floor"), [("pqn", 0.95), ("rpqn", 0.95), ("tpqn", 0.5)])
def test_the_demo_reaches_its_figures_and_draws(tmp_path, model, floor):
    succeed("demo", "--model", model, "--output", tmp_path)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["bits_per_code"] == 24
    assert len(metrics["prefixes"]) == (2 if model == "rpqn" else 0)
    assert metrics["mAP"] >= floor
    assert metrics["mAP"] >= metrics["raw_embeddings"]["mAP"] - 0.02
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models" / "digits" / "1" / "saved_model.pb").is_file()


def test_a_demo_of_photos_without_labels_is_refused_before_it_trains(photos, tmp_path):
    for path in photos.glob("*/*.png"):
        path.rename(photos / path.name)
    options = ("--images", photos, "--weights", "imagenet", "--output", tmp_path / "demo")
    result = run_command("demo", *options)
    assert result.status == 2 and "in a subfolder for each label" in result.error


def test_right_neighbours_are_framed_green_and_wrong_ones_red(tmp_path):
    from PIL import Image, ImageColor

    from tfpqn.cli.demo.picture import RIGHT_COLOUR, WRONG_COLOUR, Item, draw_neighbours

    pixels = np.zeros((8, 8, 1), np.uint8)

    def count(is_right, colour):
        rows = [[Item(pixels, None), Item(pixels, is_right)]] * 2
        picture = np.asarray(Image.open(draw_neighbours(rows, tmp_path / "picture.png", "title")))
        return int((picture == ImageColor.getrgb(colour)).all(axis=-1).sum())

    assert count(True, RIGHT_COLOUR) > 100
    assert count(True, WRONG_COLOUR) == 0
    assert count(False, WRONG_COLOUR) > 100


def test_files_that_cannot_be_searched_with_are_named_and_the_others_answered(folder):
    files = [folder / name for name in ("none.png", "digit.png", "text.png")]
    result = run_command("search", "--model", folder / "models" / "1", "--json", *files)
    assert result.status == 2
    (answer,) = json.loads(result.output)
    assert answer["file"] == str(files[1]) and len(answer["neighbours"]) == 4
    first, last = result.error.splitlines()
    assert first.startswith("tfpqn: error: A query must be an image file") and "none.png" in first
    assert last.startswith("tfpqn: error: ") and "text.png: expected the bytes of a" in last


def test_an_ingest_of_an_index_that_is_not_there_names_it(folder, tmp_path):
    output = ("--output", tmp_path / "models" / "digits")
    result = run_command("ingest", "--run-dir", folder / "run", "--index", folder / "none", *output)
    assert (result.status, "folder of an index" in result.error) == (2, True)


def test_an_ingest_of_a_folder_that_is_not_there_writes_nothing(folder, tmp_path):
    given = ("--run-dir", folder / "run", "--index", folder / "index", "--images", "nowhere")
    result = run_command("ingest", *given, "--output", tmp_path / "models" / "digits")
    assert (result.status, "image folder must exist" in result.error) == (2, True)
    assert not list((tmp_path / "models").iterdir())
