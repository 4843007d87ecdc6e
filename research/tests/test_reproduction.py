"""Laws of the tables: a row is run once, recorded in full, and the page comes from the records."""

import dataclasses
import json
import shutil

import pytest

from research import summary
from research.records import find_changes, read_records
from research.reports import (
    find_page,
    format_overview,
    format_runs,
    format_table,
    read_speed,
    write_report,
)
from research.reproduction import reproduce
from research.summary import Line, format_summary
from research.table import Table
from research.tables import TABLES
from tfpqn.training import Run, RunConfig
from tfpqn.training.recipes import Recipe, find_recipe

CONFIG = RunConfig.plain(bits=8, embedding_dim=16, epochs=2, batch_size=256, seed=9)
EMBEDDING = CONFIG.replace(loss_sides="raw")
ROWS = (
    Recipe("pqn-8", "PQN", CONFIG, seeds=(0, 1), published=0.75),
    Recipe("embedding", None, EMBEDDING),
    Recipe("later-8", "embedding, then PQ", CONFIG.replace(epochs=0), start="embedding"),
)
TABLE = Table("tiny", "Digits", "What a reader has to know.", ("digits",), ROWS)


def run_rows(runs, results, rows=None, seeds=None):
    options = {"runs_dir": runs, "results_dir": results, "progress": False}
    return reproduce(TABLE, rows, seeds, say=lambda sentence: None, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def records(folder):
    paths = run_rows(folder / "runs", folder / "results")
    write_report([TABLE], folder / "results", folder / "page.md")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def test_each_seed_of_a_row_has_a_record_of_what_made_it(records):
    assert list(records) == ["pqn-8-0", "pqn-8-1", "embedding-0", "later-8-0"]
    maps = [record["metrics"]["digits"]["mAP"] for record in records.values()]
    assert maps[0] != maps[1]
    record = records["pqn-8-1"]
    assert record["command"] == "python -m research tiny --rows pqn-8 --seed 1"
    assert (record["table"], record["row"], record["seed"]) == ("tiny", "pqn-8", 1)
    assert record["settings"]["bits"] == 8 and "seed" not in record["settings"]
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2]
    assert record["training_seconds"] == sum(epoch["seconds"] for epoch in record["history"]) > 0
    assert {"tfpqn", "python", "keras", "numpy"} <= set(record["versions"])


def test_a_row_may_start_from_the_run_of_another(folder, records):
    assert records["later-8-0"]["start"] == "embedding"
    run = Run.open(folder / "runs" / "tiny" / "later-8-0")
    assert run.config.model.initial_run == str(folder / "runs" / "tiny" / "embedding-0")
    later, before = (records[name]["metrics"]["digits"] for name in ("later-8-0", "embedding-0"))
    # Without epochs only the codebooks are others.
    assert later["raw_embeddings"] == before["raw_embeddings"]


def test_runs_may_be_moved_with_their_starts_and_are_not_trained_again(folder, records, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "runs", moved)

    def again(results):
        return [path.stem for path in run_rows(moved, tmp_path / results, ["later-8"])]

    trained = moved / "tiny" / "later-8-0" / "network.keras"
    before = trained.stat().st_mtime_ns
    assert again("results") == ["embedding-0", "later-8-0"]
    assert trained.stat().st_mtime_ns == before
    for name in ("embedding-0", "later-8-0"):
        written = json.loads((tmp_path / "results" / "tiny" / f"{name}.json").read_text())
        assert written["metrics"] == records[name]["metrics"]
    # A start that is recorded is left alone; one that is needed no more may be gone.
    assert again("results") == ["later-8-0"]
    shutil.rmtree(moved / "tiny" / "embedding-0")
    assert again("others") == ["later-8-0"]


def test_what_cannot_end_well_is_refused_before_any_training(folder, records, tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    with pytest.raises(ValueError, match="seed must be at least 0"):
        run_rows(runs, results, ["pqn-8"], [0, -1])
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
        ("machine.json", "{}", r"must be what the run is trained on.*nothing of .*'versions'"),
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


def test_the_summary_shows_how_many_seeds_a_figure_has(records, monkeypatch):
    lines = (Line("tiny", "pqn-8", "PQN .750"), Line("unrecorded", "pqn-8"))
    monkeypatch.setattr(summary, "LINES", lines)
    of_row = [record for record in records.values() if record["row"] == "pqn-8"]
    last = format_summary({"tiny": (TABLE, of_row)}).splitlines()[-1]
    maps = [record["metrics"]["digits"]["mAP"] for record in of_row]
    assert f"{sum(maps) / 2:.4f} ({min(maps):.3f}-{max(maps):.3f}) | 2 | PQN .750 |" in last
    assert format_summary({}) == ""


def test_the_summary_names_rows_that_are_there():
    assert all(TABLES[line.table].find(line.row).group for line in summary.LINES)


def test_the_page_shows_means_published_figures_and_runs(folder, records):
    page = (folder / "page.md").read_text()
    maps = [records[name]["metrics"]["digits"]["mAP"] for name in ("pqn-8-0", "pqn-8-1")]
    assert f"| PQN | {sum(maps) / 2:.4f} ({min(maps):.3f}-{max(maps):.3f}) |" in page
    assert "| PQN, published | 0.750 |" in page and "| None |" not in page
    assert "What a reader has to know." in page and "`later-8`, 0, from `embedding`" in page
    assert "4 of 4 runs that the recipes name have a record." in page
    assert (folder / "tiny.png").is_file()


def test_the_page_names_runs_without_a_record_and_counts_those_of_other_seeds(records):
    known = [record for name, record in records.items() if name != "later-8-0"]
    fewer = with_row(0, seeds=(0,))
    assert (
        "2 of 3 runs that the recipes name have a record, and 1 of other seeds. "
        "Without one: `later-8`, 0.\n"
    ) in format_table(fewer, known, "tiny.png")


def with_row(number, **changes):
    """The table with another row of this number."""
    rows = list(ROWS)
    rows[number] = dataclasses.replace(rows[number], **changes)
    return dataclasses.replace(TABLE, rows=tuple(rows))


def test_runs_of_a_former_recipe_or_start_are_marked_and_what_it_had_is_told(records):
    everything = list(records.values())
    assert not any(find_changes(TABLE, record, everything) for record in everything)
    longer = with_row(0, config=CONFIG.replace(epochs=3))
    lines = format_runs(longer, everything)
    assert [" †" in line for line in lines[2:6]] == [True, True, False, False]
    assert lines[-1] == "- † `pqn-8`, 0 and `pqn-8`, 1 had other settings: epochs 2, now 3."
    overview = format_overview(longer, everything, "digits")
    assert [line.endswith("† |") for line in overview[2:]] == [True, False, False]
    later = records["later-8-0"]
    changes = find_changes(with_row(1, config=EMBEDDING.replace(epochs=3)), later, everything)
    assert changes == ["that of its start `embedding`: epochs 2, now 3"]
    changes = find_changes(with_row(2, start="pqn-8"), later, everything)
    assert changes == ["start embedding, now pqn-8"]


def test_a_setting_that_is_younger_than_the_record_had_the_plain_value(records):
    settings = dict(records["pqn-8-0"]["settings"])
    # The second is another one in the defaults.
    del settings["center_embeddings"], settings["scale_features"]
    record = {**records["pqn-8-0"], "settings": settings}
    uncentred = with_row(0, config=CONFIG.replace(center_embeddings=False))
    assert find_changes(uncentred, record, [record]) == ["center_embeddings True, now False"]


def test_a_run_in_half_precision_says_so_and_is_no_other_recipe(records):
    record = records["pqn-8-0"]
    half = {**record, "settings": {**record["settings"], "precision": "mixed_bfloat16"}}
    assert not find_changes(TABLE, half, [half])
    assert ", in bfloat16 |" in format_runs(TABLE, [half])[2]
    # Nor is it the start of one in full.
    later = records["later-8-0"]
    start = records["embedding-0"]
    start = {**start, "settings": {**start["settings"], "precision": "mixed_bfloat16"}}
    assert "from `embedding`, which has no record |" in format_runs(TABLE, [start, later])[3]
    assert "bfloat16" not in format_runs(TABLE, [record])[2]


def test_speed_is_that_of_the_median_epoch_with_every_view_counted(records):
    record = {**records["pqn-8-0"], "settings": {**records["pqn-8-0"]["settings"], "views": 2}}
    record["history"] = [{"epoch": 1, "seconds": seconds} for seconds in (1.0, 10.0, 30.0)]
    record["history"].append({"epoch": 4, "seconds": 0.5, "mAP": 0.5})
    number = record["metrics"]["digits"]["splits"]["train"]["num_images"]
    assert f"| {2 * number / 10:,.0f} |" in format_runs(TABLE, [record])[2]


def test_a_table_shows_the_readings_that_its_records_have(records, tmp_path):
    rows = tuple(Recipe(f"alpha-{a}", "PQN", CONFIG.replace(alpha=float(a))) for a in (1, 40))
    figures = {**records["pqn-8-0"]["metrics"]["digits"], "mAP": 0.5}
    figures["coded_queries"] = {"mAP": 0.75}
    several = Table("hard", "", "", ("digits",), rows, "alpha", ("codes", "symmetric"))
    # At one position each reading has a column.
    one = Table("one", "", "", ("digits",), rows[1:], metrics=("codes", "symmetric"))
    for table in (several, one):
        record = {**records["pqn-8-0"], "table": table.name, "row": "alpha-40"}
        record.update(settings=rows[1].settings(), metrics={"digits": figures})
        (tmp_path / table.name).mkdir()
        (tmp_path / table.name / "alpha-40-0.json").write_text(json.dumps(record))
    write_report([several, one], tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| alpha | 1 | 40 |\n|---|---:|---:|\n| PQN: codes |  | 0.5000 |\n" in page
    assert "| PQN: coded queries too |  | 0.7500 |\n" in page
    assert "| PQN | 0.5000 | 0.7500 |\n" in page
    assert (tmp_path / "hard.png").is_file() and (tmp_path / "one.png").is_file()
    del figures["coded_queries"]
    assert "coded" not in "".join(format_overview(several, [record], "digits"))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: {**record, "seed": 1},
        lambda record: {**record, "metrics": {}},
        lambda record: {**record, "metrics": {"digits": {**record["metrics"]["digits"], "mAP": 7}}},
        lambda record: {**record, "history": [{}]},
        lambda record: {**record, "settings": {}},
        lambda record: {**record, "versions": {}, "commit": None},
        lambda record: {name: value for name, value in record.items() if name != "history"},
    ],
)
def test_a_file_that_is_not_the_record_of_its_place_is_refused_by_name(records, tmp_path, change):
    (tmp_path / "tiny").mkdir()
    file = tmp_path / "tiny" / "pqn-8-0.json"
    for text in (json.dumps(change(records["pqn-8-0"])), "{"):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"{file} must be a record of `python -m research`"):
            read_records(TABLE, tmp_path)


def test_the_page_lies_beside_the_results_and_replaces_none_of_another_kind(folder, tmp_path):
    assert find_page(folder / "page") == folder / "page.md"
    assert find_page(tmp_path / "results-0.2") == tmp_path / "results-0.2.md"
    (tmp_path / "method.md").write_text("# Method\n")
    with pytest.raises(ValueError, match=r"would replace one .*method\.md"):
        find_page(tmp_path / "method")
    with pytest.raises(ValueError, match=r"must have a name. Received: '\.\.'"):
        find_page("..")


def test_the_page_ends_with_the_speed_of_training_where_it_was_measured(tmp_path):
    row = {"network": "conv3", "case": "jax", "images_per_second": 1234.5, "ratio": 0.5}
    machine = {"command": "python speed.py", "hardware": "2 cores", "load_before": 0.0}
    machine.update(versions={"numpy": "2"}, rows=[row])
    file, page = tmp_path / "training-speed.json", tmp_path / "page.md"
    file.write_text(json.dumps({"machines": [machine, machine]}))
    write_report([TABLE], tmp_path, page)
    assert page.read_text().count("| conv3 | jax | 1,234 | 0.50 |") == 2
    assert "`python speed.py`: 2 cores; load 0.0 before the run; numpy 2." in page.read_text()
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"training-speed\.json' must be"):
        read_speed(tmp_path)


def test_names_and_starts_of_rows_fit_their_table():
    with pytest.raises(ValueError, match="must be named TABLE/ROW"):
        find_recipe("cifar10-p1")
    with pytest.raises(ValueError, match="must differ in name. Received: 'pqn-8'"):
        Table("twice", "", "", ("digits",), 2 * ROWS[:1])
    with pytest.raises(ValueError, match="must start from a row before it. Received: 'embedding'"):
        Table("late", "", "", ("digits",), ROWS[2:])
