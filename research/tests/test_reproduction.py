"""Laws of the tables: a row is run once, recorded in full, and the page comes from the records."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from research.records import find_changes, read_records
from research.reports import find_page, format_overview, format_runs, read_speed, write_report
from research.reproduction import reproduce
from research.table import Table
from research.tables import TABLES, find_table
from tfpqn.training import Run, RunConfig
from tfpqn.training.recipes import Recipe, find_recipe

CONFIG = RunConfig.of(bits=8, embedding_dim=16, epochs=2, batch_size=256, seed=9)
EMBEDDING = CONFIG.replace(loss_sides="raw")
LATER = CONFIG.replace(epochs=0)
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


def run_rows(runs, results, rows=None, seeds=None):
    return reproduce(
        TABLE,
        rows,
        seeds,
        runs_dir=runs,
        results_dir=results,
        say=lambda sentence: None,
        progress=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def records(folder):
    paths = run_rows(folder / "runs", folder / "results")
    write_report([TABLE], folder / "results", folder / "page.md")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def test_each_row_is_run_for_each_of_its_seeds(records):
    assert list(records) == ["pqn-8-0", "pqn-8-1", "embedding-0", "later-8-0"]
    maps = [record["metrics"]["digits"]["mAP"] for record in records.values()]
    assert maps[0] != maps[1]


def test_a_record_holds_what_made_it(records):
    record = records["pqn-8-1"]
    assert record["command"] == "python -m research tiny --rows pqn-8 --seed 1"
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
    assert run.config.model.initial_run == str(start.folder)
    later, before = (records[name]["metrics"]["digits"] for name in ("later-8-0", "embedding-0"))
    # Without epochs only the codebooks are others.
    assert later["raw_embeddings"] == before["raw_embeddings"]
    assert run.read_history() == []


def test_what_is_trained_is_not_trained_again(folder, records):
    path = folder / "runs" / "tiny" / "pqn-8-0" / "network.keras"
    before = path.stat().st_mtime_ns
    again = run_rows(folder / "runs", folder / "again", ["pqn-8"], [0])
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
    assert "Of the 4 runs that the recipes name, 4 are recorded." in page
    assert (folder / "tiny.png").is_file()


def with_row(**settings):
    """The table with other settings of its first row."""
    row = dataclasses.replace(TABLE.rows[0], config=CONFIG.replace(**settings))
    return dataclasses.replace(TABLE, rows=(row, *TABLE.rows[1:]))


def test_runs_of_a_former_recipe_are_marked_and_what_it_had_is_told(records):
    everything = list(records.values())
    assert not any(find_changes(TABLE, record, everything) for record in everything)
    longer = with_row(epochs=3)
    assert find_changes(longer, records["pqn-8-0"], everything) == ["epochs 2, now 3"]
    lines = format_runs(longer, everything)
    assert [" †" in line for line in lines[2:6]] == [True, True, False, False]
    assert lines[-1] == "- † `pqn-8`, 0 and `pqn-8`, 1: epochs 2, now 3."
    overview = format_overview(longer, everything, "digits")
    assert [line.endswith("† |") for line in overview[2:]] == [True, False, False]


def test_a_setting_that_is_younger_than_the_record_had_its_default(records):
    record = records["pqn-8-0"]
    older = {name: value for name, value in record["settings"].items() if name != "precision"}
    record = {**record, "settings": older}
    assert find_changes(TABLE, record, [record]) == []
    half = with_row(precision="mixed_bfloat16")
    assert find_changes(half, record, [record]) == ["precision float32, now mixed_bfloat16"]


def test_a_run_whose_start_is_of_a_former_recipe_is_marked(records):
    start = dataclasses.replace(TABLE.rows[1], config=EMBEDDING.replace(epochs=3))
    table = dataclasses.replace(TABLE, rows=(TABLE.rows[0], start, TABLE.rows[2]))
    changes = find_changes(table, records["later-8-0"], list(records.values()))
    assert changes == ["that of its start `embedding`: epochs 2, now 3"]
    other = dataclasses.replace(TABLE.rows[2], start="pqn-8")
    table = dataclasses.replace(TABLE, rows=(*TABLE.rows[:2], other))
    changes = find_changes(table, records["later-8-0"], list(records.values()))
    assert changes == ["start embedding, now pqn-8"]


def test_speed_is_that_of_the_median_epoch_with_every_view_counted(records):
    record = {**records["pqn-8-0"], "settings": {**records["pqn-8-0"]["settings"], "views": 2}}
    record["history"] = [{"epoch": 1, "seconds": seconds} for seconds in (1.0, 10.0, 30.0)]
    record["history"].append({"epoch": 4, "seconds": 0.5, "mAP": 0.5})
    number = record["metrics"]["digits"]["splits"]["train"]["num_images"]
    assert f"| {2 * number / 10:,.0f} |" in format_runs(TABLE, [record])[2]


def with_figure(record, name, value):
    return {**record, "metrics": {"digits": {**record["metrics"]["digits"], name: value}}}


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: {**record, "table": "other"},
        lambda record: {**record, "seed": 1},
        lambda record: {**record, "seed": "0"},
        lambda record: {**record, "metrics": {}},
        lambda record: with_figure(record, "mAP", None),
        lambda record: with_figure(record, "mAP", 7.5),
        lambda record: with_figure(record, "mAP", float("nan")),
        lambda record: with_figure(record, "soft_items", {}),
        lambda record: with_figure(record, "splits", {}),
        lambda record: {**record, "history": [{}]},
        lambda record: {**record, "history": [1, 2]},
        lambda record: {**record, "settings": {}},
        lambda record: {**record, "training_seconds": None},
        lambda record: {**record, "versions": {}, "commit": None},
        lambda record: {name: value for name, value in record.items() if name != "history"},
    ],
)
def test_a_file_that_is_not_the_record_of_its_place_is_refused_by_name(records, tmp_path, change):
    (tmp_path / "tiny").mkdir()
    file = tmp_path / "tiny" / "pqn-8-0.json"
    file.write_text(json.dumps(change(records["pqn-8-0"])))
    with pytest.raises(ValueError, match=f"{file} must be a record of `python -m research`"):
        read_records(TABLE, tmp_path)
    file.write_text("{")
    with pytest.raises(ValueError, match=f"{file} must be a record"):
        read_records(TABLE, tmp_path)


def test_the_page_lies_beside_the_results_and_replaces_none_of_another_kind(folder, tmp_path):
    assert find_page(folder / "page") == folder / "page.md"
    assert find_page(tmp_path / "results-0.2") == tmp_path / "results-0.2.md"
    (tmp_path / "method.md").write_text("# Method\n")
    with pytest.raises(ValueError, match=r"would replace one .*method\.md"):
        find_page(tmp_path / "method")
    with pytest.raises(ValueError, match=r"must have a name. Received: '\.'"):
        find_page(".")
    with pytest.raises(ValueError, match=r"must have a name. Received: '\.\.'"):
        find_page("..")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ValueError, match=r"would replace one .*folder\.md"):
        find_page(tmp_path / "folder")


def test_runs_may_be_moved_with_what_they_start_from(folder, records, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "runs", moved)

    def again(results):
        return run_rows(moved, tmp_path / results, ["later-8"])

    written = again("results")
    assert [path.stem for path in written] == ["embedding-0", "later-8-0"]
    for path in written:
        assert json.loads(path.read_text())["metrics"] == records[path.stem]["metrics"]
    # A start that is recorded is left alone; one that is needed no more may be gone.
    assert [path.stem for path in again("results")] == ["later-8-0"]
    shutil.rmtree(moved / "tiny" / "embedding-0")
    assert [path.stem for path in again("others")] == ["later-8-0"]


def test_what_cannot_end_well_is_refused_before_any_training(folder, records, tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    with pytest.raises(ValueError, match="seed must be at least 0"):
        run_rows(runs, results, ["pqn-8"], [0, -1])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        run_rows(runs, tmp_path / "file", ["pqn-8"])
    # Of another row's settings.
    shutil.copytree(folder / "runs" / "tiny" / "embedding-0", runs / "tiny" / "later-8-0")
    with pytest.raises(ValueError, match="must go on with its own settings"):
        run_rows(runs, results, ["pqn-8", "later-8"])
    assert [path.name for path in (runs / "tiny").iterdir()] == ["later-8-0"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("machine.json", "[]", r"machine\.json' must be what the run is trained on"),
        ("machine.json", "{}", r"must be what the run is trained on.*nothing of .*'versions'"),
        ("checkpoints/history.json", '{"a": 1}', r"history\.json' must be a list of epochs"),
        ("checkpoints/history.json", "[1]", r"history\.json' must be a list of epochs"),
        ("checkpoints/history.json", '[{"seconds": "1"}]', "seconds='1', which is not float"),
        ("checkpoints/history.json", "[]", "must have a history of 2 epochs. Received: 0"),
        ("network.keras", "PK", r"network\.keras' must be a network.*not a zip file"),
    ],
)
def test_no_record_is_made_of_a_damaged_run(folder, records, tmp_path, name, content, message):
    shutil.copytree(folder / "runs" / "tiny" / "pqn-8-0", tmp_path / "runs" / "tiny" / "pqn-8-0")
    (tmp_path / "runs" / "tiny" / "pqn-8-0" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        run_rows(tmp_path / "runs", tmp_path / "results", ["pqn-8"], [0])
    assert not list((tmp_path / "results" / "tiny").iterdir())


def page_of(table, metrics, records, folder):
    """The page on a table's rows, whose records have these figures."""
    (folder / table.name).mkdir()
    for row, own in zip(table.rows, metrics, strict=True):
        record = {**records["pqn-8-0"], "table": table.name, "row": row.name}
        record["settings"] = row.settings()
        record["metrics"] = {"digits": {**record["metrics"]["digits"], **own}}
        (folder / table.name / f"{row.name}-0.json").write_text(json.dumps(record))
    write_report([table], folder, folder / "page.md")
    assert (folder / f"{table.name}.png").is_file()
    return (folder / "page.md").read_text()


def test_a_table_may_be_of_another_setting_than_bits_and_show_several_readings(records, tmp_path):
    rows = tuple(Recipe(f"alpha-{a}", "PQN", CONFIG.replace(alpha=float(a))) for a in (1, 40))
    table = Table("hard", "Hardness", "", ("digits",), rows, "alpha", ("codes", "symmetric"))
    figures = [{"mAP": a, "coded_queries": {"mAP": b}} for a, b in ((0.5, 0.75), (0.625, 0.25))]
    page = page_of(table, figures, records, tmp_path)
    assert "| alpha | 1 | 40 |" in page
    assert "| PQN: codes | 0.5000 | 0.6250 |" in page
    assert "| PQN: coded queries too | 0.7500 | 0.2500 |" in page


def test_a_table_of_one_position_has_a_column_for_each_reading(records, tmp_path):
    rows = (Recipe("plain", "PQN", CONFIG), Recipe("more", "PQN and more", CONFIG))
    table = Table("one", "One", "", ("digits",), rows, metrics=("codes", "raw"))
    figures = [{"mAP": a, "raw_embeddings": {"mAP": b}} for a, b in ((0.5, 0.75), (0.625, 0.25))]
    page = page_of(table, figures, records, tmp_path)
    assert "| | codes | raw embeddings |" in page
    assert "| PQN | 0.5000 | 0.7500 |" in page
    assert "| PQN and more | 0.6250 | 0.2500 |" in page


def test_a_reading_that_no_record_has_is_left_out(records, tmp_path):
    """As those from before it was taken."""
    figures = dict(records["pqn-8-0"]["metrics"]["digits"])
    del figures["coded_queries"]
    records = {"pqn-8-0": {**records["pqn-8-0"], "metrics": {"digits": figures}}}
    table = Table("old", "Old", "", ("digits",), TABLE.rows[:1], metrics=("symmetric",))
    page = page_of(table, [{}], records, tmp_path)
    assert "| PQN |" not in page
    assert "`pqn-8`, 0" in page


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_every_table_can_be_found(name):
    for row in find_table(name).rows:
        assert find_table(name).find(row.name) is row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_recipe("cifar10-p1"), "must be named TABLE/ROW"),
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
@pytest.mark.parametrize(
    "name", ["alexnet-imagenet-24", "vgg16-imagenet-24", "resnet50-imagenet-24"]
)
def test_rows_of_pretrained_nets_take_a_step_with_random_weights(name):
    row = find_table("cifar10-p2").find(name)
    config = row.config_of(0).replace(weights=None)
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
    for damaged in ("{", "{}", "[]"):
        (tmp_path / "training-speed.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"training-speed\.json' must be"):
            read_speed(tmp_path)
