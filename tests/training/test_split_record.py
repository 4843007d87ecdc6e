"""Laws of a run's split: what was trained on never searches without a word, wherever it lies."""

import json
import shutil

import pytest

from tests.datasets.pictures import write_image
from tfpqn.datasets import Splits
from tfpqn.training import Run, RunConfig, calibrate_run, evaluate_run, train

SETTINGS = {
    "image_size": 8,
    "bits": 16,
    "embedding_dim": 16,
    "epochs": 1,
    "batch_size": 8,
}
LABELS = ("ant", "bee")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Photos, and a run that was trained on them, named by a path relative to its place then."""
    place = tmp_path_factory.mktemp("original")
    for seed in range(60):
        write_image(place / "photos" / LABELS[seed % 2] / f"{seed}.png", seed, (8, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = Run.start("run", RunConfig.of(images="photos", **SETTINGS))
        train(run, run.load_splits(), progress=False)
    return place


@pytest.fixture
def photos(original):
    """The photos, as they were trained on at the beginning and the end of each test."""
    backup = original / "backup"
    shutil.copytree(original / "photos", backup)
    yield original / "photos"
    shutil.rmtree(original / "photos", ignore_errors=True)
    backup.rename(original / "photos")


@pytest.fixture
def run(original, photos, tmp_path):
    return Run.open(shutil.copytree(original / "run", tmp_path / "run"))


def ids(part):
    return set(map(str, part.ids))


def test_a_run_is_evaluated_from_any_folder(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = run.load_splits()
    metrics = evaluate_run(run, run.load_network(), splits)
    assert metrics["protocol"] == run.config.data.images == str(photos)
    assert metrics["folder_changes"] == {"added": 0, "gone": 0, "trained_queries": 0}
    assert splits.describe() == run.config.data.load_splits().describe()


def write_settings(run, **changes):
    """Settings as version 0.1 wrote them, without those that are `...`."""
    settings = {**run.config.flat(), **changes}
    kept = {name: value for name, value in settings.items() if value is not ...}
    (run.folder / "run.json").write_text(json.dumps(kept))


def test_settings_of_an_earlier_version_are_relative_to_the_current_folder(
    run, photos, tmp_path, monkeypatch
):
    write_settings(run, images="photos")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="place now be given .*--images of") as caught:
        Run.open(run.folder).load_splits()
    assert repr(str(tmp_path / "photos")) in str(caught.value)
    monkeypatch.chdir(photos.parent)
    assert Run.open(run.folder) == run


def test_a_folder_that_has_moved_is_named_and_gives_the_same_split(run, photos):
    before = run.load_splits().describe()
    moved = photos.rename(photos.with_name("moved"))
    with pytest.raises(FileNotFoundError, match="place now be given .*--images of"):
        run.load_splits()
    assert run.load_splits(images=moved).describe() == before
    with pytest.raises(ValueError, match="needs one of protocol, images, videos.*digits.*moved"):
        run.load_splits(protocol="digits", images=moved)
    shutil.rmtree(moved)


def test_no_trained_photo_searches_when_the_folder_has_changed(run, photos):
    before = run.load_splits()
    (searching, *_), (trained, *_) = sorted(ids(before.query)), sorted(ids(before.train))
    for id_ in (searching, trained):
        (photos / id_).write_bytes(b"no image any more")
    for seed in range(100, 140):
        write_image(photos / "ant" / f"{seed}.png", seed)
    after = run.load_splits()
    assert not ids(after.query) & ids(before.train)
    assert ids(before.query) - {searching} < ids(after.query)
    with pytest.warns(UserWarning, match=r"since training \(40 added, 2 gone or unreadable\)$"):
        metrics = evaluate_run(run, run.load_network(), after)
    assert metrics["folder_changes"] == {"added": 40, "gone": 2, "trained_queries": 0}
    assert run.read_metrics()["folder_changes"] == metrics["folder_changes"]


def test_trained_photos_that_search_nevertheless_are_counted_and_stay_trained_on(run, photos):
    before = run.load_splits()
    swapped = Splits(before.query, before.query, before.train)
    for tell in (evaluate_run, lambda *given: calibrate_run(*given, precision=0.01)):
        with pytest.warns(UserWarning, match=f"; {len(before.train)} of the queries were trained"):
            tell(run, run.load_network(), swapped)
    run.split_record.write(swapped)
    with pytest.raises(ValueError, match=r"Received: 0 queries among 60 items"):
        run.load_splits()


@pytest.mark.filterwarnings("ignore:The data has changed since training")
def test_training_does_not_go_on_with_other_label_folders(run, photos):
    (run.folder / "network.keras").unlink()
    for seed in range(2):
        write_image(photos / "wasp" / f"{seed}.png", seed)
    message = r"label folders must be those.*\['ant', 'bee', 'wasp'\], not \['ant', 'bee'\]"
    with pytest.raises(ValueError, match=message):
        train(run, run.load_splits(), progress=False)


def test_a_run_without_a_record_is_refused(run):
    (run.folder / "split.json").unlink()
    with pytest.raises(ValueError, match=r"must hold split.json.*Received: a run without it"):
        run.load_splits()


@pytest.mark.parametrize("text", ["[]", '{"query": []}', "{"])
def test_a_damaged_record_is_named(run, photos, text):
    (run.folder / "split.json").write_text(text)
    with pytest.raises(ValueError, match=r"split\.json' must"):
        run.load_splits()
