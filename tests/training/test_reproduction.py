"""Laws of the tables: a row is run once, recorded in full, and the page comes from the records."""

import dataclasses
import json

import numpy as np
import pytest

from tfpqn.training import Run, RunConfig, reproduce
from tfpqn.training.recipes import Recipe, Table, find_recipe, find_table, table_names
from tfpqn.training.reports import format_overview, format_runs, is_former, write_report

CONFIG = RunConfig(bits=8, embedding_dim=16, epochs=2, batch_size=256, seed=9)
EMBEDDING = dataclasses.replace(CONFIG, loss_sides="raw")
LATER = dataclasses.replace(CONFIG, epochs=0)
TABLE = Table(
    "tiny",
    "Digits",
    "What a reader has to know.",
    ("digits",),
    (
        Recipe("pqn-8", "PQN", CONFIG, seeds=(0, 1), published=0.75),
        Recipe("embedding", None, EMBEDDING),
        Recipe("later-8", "embedding, then PQ", LATER, start="embedding"),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def records(folder):
    paths = reproduce(
        TABLE,
        runs_dir=folder / "runs",
        results_dir=folder / "results",
        say=lambda sentence: None,
        progress=False,
    )
    write_report([TABLE], folder / "results", folder / "page.md")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def test_each_row_is_run_for_each_of_its_seeds(records):
    assert list(records) == ["pqn-8-0", "pqn-8-1", "embedding-0", "later-8-0"]
    maps = [record["metrics"]["digits"]["mAP"] for record in records.values()]
    assert maps[0] != maps[1]


def test_a_record_holds_what_made_it(records):
    record = records["pqn-8-1"]
    assert record["command"] == "tfpqn reproduce tiny --rows pqn-8 --seed 1"
    assert (record["table"], record["row"], record["seed"]) == ("tiny", "pqn-8", 1)
    assert record["settings"]["bits"] == 8
    assert "seed" not in record["settings"]
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2]
    assert record["training_seconds"] == sum(epoch["seconds"] for epoch in record["history"])
    assert record["training_seconds"] > 0
    assert {"tfpqn", "python", "keras", "numpy"} <= set(record["versions"])


def test_a_row_may_start_from_the_run_of_another(folder, records):
    assert records["later-8-0"]["start"] == "embedding"
    run = Run.open(folder / "runs" / "tiny" / "later-8-0")
    start = Run.open(folder / "runs" / "tiny" / "embedding-0")
    assert run.config.initial_run == str(start.folder)
    later, before = (records[name]["metrics"]["digits"] for name in ("later-8-0", "embedding-0"))
    # Without epochs only the codebooks are others.
    assert later["raw_embeddings"] == before["raw_embeddings"]
    assert run.read_history() == []


def test_what_is_trained_is_not_trained_again(folder, records):
    path = folder / "runs" / "tiny" / "pqn-8-0" / "network.keras"
    before = path.stat().st_mtime_ns
    again = reproduce(
        TABLE,
        ["pqn-8"],
        [0],
        runs_dir=folder / "runs",
        results_dir=folder / "again",
        say=lambda sentence: None,
        progress=False,
    )
    assert path.stat().st_mtime_ns == before
    assert json.loads(again[0].read_text()) == records["pqn-8-0"]


def test_the_page_shows_means_published_figures_and_runs(folder, records):
    page = (folder / "page.md").read_text()
    maps = [records[name]["metrics"]["digits"]["mAP"] for name in ("pqn-8-0", "pqn-8-1")]
    assert f"| PQN | {sum(maps) / 2:.4f} ({min(maps):.3f}-{max(maps):.3f}) |" in page
    assert "| PQN, published | 0.750 |" in page
    assert "What a reader has to know." in page
    assert "| None |" not in page
    assert "`later-8`, 0, from `embedding`" in page
    assert (folder / "tiny.png").is_file()


def test_runs_of_a_former_recipe_are_marked(records):
    record = records["pqn-8-0"]
    row = TABLE.find("pqn-8")
    assert not is_former(record, row)
    longer = dataclasses.replace(row, config=dataclasses.replace(CONFIG, epochs=3))
    assert is_former(record, longer)
    # A setting that is younger than the record had its default.
    older = {name: value for name, value in record["settings"].items() if name != "precision"}
    half = dataclasses.replace(row, config=dataclasses.replace(CONFIG, precision="mixed_bfloat16"))
    assert not is_former({**record, "settings": older}, row)
    assert is_former({**record, "settings": older}, half)
    changed = dataclasses.replace(TABLE, rows=(longer, *TABLE.rows[1:]))
    lines = format_runs(changed, list(records.values()))
    assert [" †" in line for line in lines[2:6]] == [True, True, False, False]
    overview = format_overview(changed, list(records.values()), "digits")
    assert [line.endswith("† |") for line in overview[2:]] == [True, False, False]


def test_a_table_may_be_of_another_setting_than_bits_and_show_several_readings(records, folder):
    figures = {1.0: (0.5, 0.75), 40.0: (0.625, 0.25)}
    rows = tuple(
        Recipe(f"alpha-{alpha:g}", "PQN", dataclasses.replace(CONFIG, alpha=alpha))
        for alpha in figures
    )
    table = Table("hard", "Hardness", "", ("digits",), rows, "alpha", ("codes", "symmetric"))
    (folder / "results" / "hard").mkdir()
    for row, (codes, symmetric) in zip(rows, figures.values(), strict=True):
        record = {**records["pqn-8-0"], "table": "hard", "row": row.name}
        record["settings"] = row.settings()
        metrics = {**record["metrics"]["digits"], "mAP": codes, "coded_queries": {"mAP": symmetric}}
        path = folder / "results" / "hard" / f"{row.name}-0.json"
        path.write_text(json.dumps({**record, "metrics": {"digits": metrics}}))
    write_report([table], folder / "results", folder / "hard.md")
    page = (folder / "hard.md").read_text()
    assert "| alpha | 1 | 40 |" in page
    assert "| PQN: codes | 0.5000 | 0.6250 |" in page
    assert "| PQN: coded queries too | 0.7500 | 0.2500 |" in page
    assert (folder / "hard.png").is_file()


def test_a_table_of_one_position_has_a_column_for_each_reading(records, folder):
    (row,) = TABLE.rows[1:2]
    rows = (
        dataclasses.replace(row, name="plain", group="PQN"),
        dataclasses.replace(row, name="more", group="PQN and more"),
    )
    table = Table("one", "One", "", ("digits",), rows, readings=("codes", "raw"))
    (folder / "results" / "one").mkdir()
    for name, codes, raw in (("plain", 0.5, 0.75), ("more", 0.625, 0.25)):
        record = {**records["pqn-8-0"], "table": "one", "row": name}
        metrics = {**record["metrics"]["digits"], "mAP": codes, "raw_embeddings": {"mAP": raw}}
        path = folder / "results" / "one" / f"{name}-0.json"
        path.write_text(json.dumps({**record, "metrics": {"digits": metrics}}))
    write_report([table], folder / "results", folder / "one.md")
    page = (folder / "one.md").read_text()
    assert "| | codes | raw embeddings |" in page
    assert "| PQN | 0.5000 | 0.7500 |" in page
    assert "| PQN and more | 0.6250 | 0.2500 |" in page
    assert (folder / "one.png").is_file()


def test_a_reading_that_no_record_has_is_left_out(records, folder):
    """As those from before it was taken."""
    (row,) = TABLE.rows[1:2]
    table = Table("old", "Old", "", ("digits",), (dataclasses.replace(row, group="PQN"),))
    (folder / "results" / "old").mkdir()
    record = {**records["embedding-0"], "table": "old"}
    (folder / "results" / "old" / "embedding-0.json").write_text(json.dumps(record))
    table = dataclasses.replace(table, readings=("symmetric",))
    del record["metrics"]["digits"]["coded_queries"]
    (folder / "results" / "old" / "embedding-0.json").write_text(json.dumps(record))
    write_report([table], folder / "results", folder / "old.md")
    page = (folder / "old.md").read_text()
    assert "| PQN" not in page
    assert "`embedding`, 0" in page


@pytest.mark.parametrize("name", table_names())
def test_every_row_of_every_table_can_be_found(name):
    for row in find_table(name).rows:
        assert find_recipe(f"{name}/{row.name}") is row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_table("cifar"), "Unknown table. Expected one of .*Received: 'cifar'"),
        (lambda: find_recipe("cifar10-p1"), "must be named TABLE/ROW"),
        (lambda: TABLE.find("pqn-9"), "Unknown row of tiny. Expected one of .*'pqn-8'.*'pqn-9'"),
        (
            lambda: Table("twice", "", "", ("digits",), 2 * TABLE.rows[:1]),
            "must differ in name. Received: 'pqn-8'",
        ),
        (
            lambda: Table("late", "", "", ("digits",), TABLE.rows[2:]),
            "must start from a row before it. Received: 'embedding'",
        ),
    ],
)
def test_unknown_names_and_rows_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16-imagenet-24", "resnet50-imagenet-24"])
def test_rows_of_pretrained_nets_take_a_step_with_random_weights(name):
    row = find_recipe(f"cifar10-p2/{name}")
    config = dataclasses.replace(row.config_of(0), weights=None)
    network = config.build_network((32, 32, 3), steps=1, num_classes=10)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    logs = network.train_on_batch(images, np.array([0, 0, 1, 1]), return_dict=True)
    assert np.isfinite(logs["loss"])


def test_the_page_ends_with_the_speed_of_training_where_it_was_measured(records, tmp_path):
    row = {"backbone": "conv3", "case": "jax", "images_per_second": 1234.5, "ratio": 0.5}
    machine = {"command": "python speed.py", "hardware": "2 cores", "load_before": 0.0}
    machine.update(versions={"numpy": "2"}, rows=[row])
    content = {"batch_size": 64, "machines": [machine, machine]}
    write_report([TABLE], tmp_path, tmp_path / "page.md")
    assert "Speed" not in (tmp_path / "page.md").read_text()
    (tmp_path / "training-speed.json").write_text(json.dumps(content))
    write_report([TABLE], tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert page.count("| conv3 | jax | 1,234 | 0.50 |") == 2
    assert "`python speed.py`: 2 cores; load 0.0 before the run; numpy 2." in page
