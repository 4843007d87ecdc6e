"""The commands and programs of the how-to pages run, with small items and short trainings."""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.scenes import ROOT, is_run, run_page
from tests.training.lite0 import write_photos, write_weights
from tfpqn.datasets import load_protocol
from tools.pages import PageRunner, read_blocks, read_commands

DOCS = ROOT / "docs"
# Pages whose blocks a test runs, here or in test_tutorials.py.
RUN = {
    "README.md",
    "docs/quickstart.md",
    "docs/data.md",
    "docs/training.md",
    "docs/search.md",
    "docs/serving.md",
    "docs/scale.md",
    "docs/retrieval.md",
    "docs/faiss.md",
    "docs/devices.md",
    "docs/howto/backbone.md",
    *(f"docs/tutorials/{path.name}" for path in (DOCS / "tutorials").glob("*.md")),
}
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted(DOCS.rglob("*.md"))]
SHORT = "--image-size 16 --epochs 1"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_is_run_by_a_test_or_named_as_one_that_is_not(page):
    if page.relative_to(ROOT).as_posix() in RUN:
        return
    for block in read_blocks(page):
        lines = read_commands(block) if block.language == "bash" else block.text.splitlines()[:1]
        if block.language in ("bash", "python"):
            skipped = [line for line in lines if not is_run(line)]
            assert skipped == lines, f"{page}:{block.line}"


def test_the_languages_of_blocks_are_known():
    for page in PAGES:
        for block in read_blocks(page):
            assert block.language in ("bash", "python", "text", "json"), f"{page}:{block.line}"


@pytest.fixture
def photos(tmp_path):
    """Photos of cats and dogs, as the pages call them."""
    images = load_protocol("digits").load().query
    for folder, rows in (("photos", range(80)), ("new", range(80, 84))):
        for row in rows:
            path = tmp_path / folder / ("cat", "dog")[int(images.labels[row]) % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.encoded_image(row))
    (tmp_path / "new" / "blurred.jpg").write_bytes(images.encoded_image(84))
    (tmp_path / "some.jpg").write_bytes(images.encoded_image(85))
    return tmp_path


@pytest.fixture
def birds(photos, monkeypatch):
    """A run, an index and a model that the pages call birds."""
    from tests.cli.conftest import succeed

    monkeypatch.chdir(photos)
    succeed("train", "--images", "photos", *SHORT.split(), "--run-dir", "runs/birds")
    succeed("index", "--run-dir", "runs/birds", "--images", "photos", "--output", "indexes/birds")
    export = ("export", "--run-dir", "runs/birds", "--index", "indexes/birds", "--tags", "label")
    succeed(*export, "--output", "models/birds/1")
    return photos


def test_the_first_program_of_the_readme_finds_the_right_digit(tmp_path):
    page = ROOT / "README.md"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 100, "README is one page"
    program, *_ = (block.text for block in read_blocks(page) if block.language == "python")
    assert len(program.splitlines()) <= 20
    check = (
        "assert index.codes.shape == (1437, 4)\n"
        "assert found.ids.shape == (1, 5) and found.ids.dtype == 'int64'\n"
        "assert found.scores.shape == (1, 5) and found.scores.dtype == 'float32'\n"
        "assert found.labels.tolist() == [[str(splits.query.labels[0])] * 5]\n"
    )
    runner = PageRunner(tmp_path, Path(sys.executable).parent, {"PYTHONPATH": str(ROOT)})
    assert "finds [" in runner.run_python(program + check)


@pytest.mark.slow
def test_readme(photos):
    np.save(photos / "all.npy", np.random.default_rng(0).normal(size=(600, 16)))
    replaced = {"--images photos/ --run-dir": f"--images photos/ {SHORT} --run-dir"}
    client = "from tfpqn.export.client import SearchClient  # needs neither TensorFlow nor Keras"
    around = {client: ("", "assert found.ids.size and more.ids.size")}
    run_page(ROOT / "README.md", photos, replaced, around)


@pytest.mark.slow
def test_data(photos):
    shutil.copytree(photos / "photos", photos / "img")
    with open(photos / "labels.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "split"])
        for number, path in enumerate(sorted(photos.rglob("img/*/*.png"))):
            name = path.relative_to(photos / "img").as_posix()
            rows.writerow([name, path.parent.name, "train" if number % 4 else "query"])
    replaced = {"img/..": f"img {SHORT}", "--protocol digits": "--protocol digits --epochs 1"}
    run_page(DOCS / "data.md", photos, replaced, afresh=True)


@pytest.mark.slow
def test_training(tmp_path):
    write_photos(tmp_path / "photos")
    weights = write_weights(tmp_path / "lite0.npz")
    replaced = {
        "--images photos/ --run-dir": f"--images photos/ {SHORT} --run-dir",
        "--epochs 100": SHORT,
        "--weights imagenet": f"--weights {weights} --image-size 32",
        "--weights efficientnet_lite0_imagenet.npz": f"--weights {weights} --image-size 32",
        "--num-levels 2 --images photos/": f"--num-levels 2 --images photos/ {SHORT}",
        "--views 2": f"--views 2 {SHORT}",
        "train --protocol digits": "train --protocol digits --epochs 1",
        "report --run-dir runs/photos": "report --run-dir runs/digits-jax",
    }
    logs = "import os; files = {name.split('.')[0] for name in os.listdir('logs/digits')}\n"
    wanted = "{'events', 'embeddings', 'items', 'pictures', 'projector_config'}"
    around = {"import keras, tfpqn": ("", f"{logs}assert files == {wanted}, files")}
    output = run_page(DOCS / "training.md", tmp_path, replaced, around, afresh=True)
    assert "The first 1 of 2 levels, 12 bits: mAP" in output


@pytest.mark.slow
def test_search(birds):
    shutil.rmtree(birds / "models")
    before = (
        "import tfpqn\n"
        "from tfpqn.training import Run\n"
        "run = Run.open('runs/birds')\n"
        "network, index = run.load_network(), tfpqn.index.CodeIndex.load('indexes/birds')\n"
        "embeddings = None\n"
    )
    line = (
        'searcher = tfpqn.export.Searcher(network, index, partition="auto", '
        "tuning_queries=embeddings)"
    )
    second = 'index = tfpqn.index.CodeIndex.load("indexes/birds")'
    run_page(DOCS / "search.md", birds, {}, {line: (before, ""), second: (before, "")})


@pytest.mark.slow
def test_serving(birds):
    images = "images = [open('some.jpg', 'rb').read()] * 2"
    around = {"from tfpqn.export.client import SearchClient": (images, "assert cats.ids.size")}
    (birds / "incoming").mkdir()
    run_page(DOCS / "serving.md", birds, {" --watch 1": ""}, around)
    assert (birds / "models" / "birds" / "2").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "check"),
    [
        (
            "retrieval",
            "assert retrieval.num_candidates == 2000 and ids.shape == (3, 10)\n"
            "assert found.shape == (1, 10) and found.dtype == tf.string\n"
            "assert not set(found.numpy()[0, :3]) & set(others.numpy()[0])\n",
        ),
        ("faiss", "import os; assert {'again.faiss', 'lists.faiss', 'models'} <= {*os.listdir()}"),
        ("devices", "assert found['ids'].size"),
    ],
)
def test_programs_that_go_on_from_one_another(tmp_path, page, check):
    if page == "faiss":
        pytest.importorskip("faiss")
    blocks = read_blocks(DOCS / f"{page}.md")
    program = "\n".join(block.text for block in blocks if block.language == "python")
    # The interpreter of the tests is TensorFlow's.
    interpreter = "import tensorflow\nInterpreter = tensorflow.lite.Interpreter\n"
    program = program.replace("from ai_edge_litert.interpreter import Interpreter\n", interpreter)
    runner = PageRunner(tmp_path, Path(sys.executable).parent, {"PYTHONPATH": str(ROOT)})
    runner.run_python(f"{program}\n{check}")


@pytest.mark.slow
def test_scale(photos):
    pytest.importorskip("apache_beam")
    replaced = {
        "--images photos/ --run-dir": f"--images photos/ {SHORT} --run-dir",
        "tfpqn encode --run-dir runs/photos --images photos/ "
        f"{SHORT}": "tfpqn encode --run-dir runs/photos --images photos/",
        "/shared/photos": "photos",
        "/shared/jobs": "jobs",
        'finish_job(job, "indexes/photos")': 'finish_job(job, "indexes/pipeline")',
        "epochs=10": "epochs=1",
    }
    run_page(DOCS / "scale.md", photos, replaced)
    assert (photos / "indexes" / "pipeline").is_dir()


def test_the_options_of_every_command_exist():
    import typer

    from tfpqn.cli.commands import app

    commands = typer.main.get_command(app).commands
    lines = [
        line
        for page in PAGES
        for block in read_blocks(page)
        if block.language == "bash"
        for line in read_commands(block)
    ]
    checked = 0
    for words in (line.partition(" #")[0].partition(" -- ")[0].split() for line in lines):
        if "tfpqn" not in words:
            continue
        name, *rest = words[words.index("tfpqn") + 1 :]
        known = {
            option for one in commands[name].params for option in (*one.opts, *one.secondary_opts)
        }
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"tfpqn {name} has no {word}"
                checked += 1
    assert checked > 100
