"""`tfpqn query`: what it prints, and how it refuses."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.client.fake_shards import WIDTH
from tests.export.tiny import NUM_ITEMS, TOP_K
from tests.serving.models import ITEMS
from tfpqn.cli.query import query

PHOTOS = ITEMS["images"]


@pytest.fixture
def run(servers):
    """Runs the command against the local server; what it raises is raised."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(query)

    def run(*arguments, model="images", name=None, address=None):
        address = address or f"localhost:{servers[model].port}"
        arguments = ["--address", address, "--model", name or model, *map(str, arguments)]
        result = CliRunner().invoke(app, arguments, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


@pytest.fixture
def files(tmp_path):
    for number, image in enumerate(PHOTOS[:2]):
        (tmp_path / f"{number}.png").write_bytes(image)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(ITEMS["clips"][0]):
        (tmp_path / "clip" / f"{number}.png").write_bytes(frame)
    return tmp_path


def test_json_and_table_hold_the_answers_of_the_searcher(run, files, models):
    paths = [files / "0.png", files / "1.png"]
    answers = json.loads(run("--json", *paths))
    assert [answer["file"] for answer in answers] == [str(path) for path in paths]
    expected = models["images"].searcher(PHOTOS[:2])
    for answer, ids in zip(answers, expected.ids.tolist(), strict=True):
        assert [neighbour["id"] for neighbour in answer["neighbours"]] == ids
        assert set(answer["neighbours"][0]) == {"id", "score"}
    table = run(files / "0.png")
    for word in ("rank", "id", "score", str(expected.ids[0, 0]), f"{expected.scores[0, 0]:.4f}"):
        assert word in table


def test_clips_are_folders_of_frames_and_ids_to_leave_out_may_be_text(run, files, models):
    best = models["clips"].searcher(ITEMS["clips"][:1]).ids[0].tolist()
    for options, expected in ((), best), (("--exclude", best[0]), best[1:]):
        (answer,) = json.loads(run("--json", files / "clip", *options, model="clips"))
        ids = [neighbour["id"] for neighbour in answer["neighbours"]]
        assert ids[: len(expected)] == expected


def test_options_choose_the_signature(run, files, models):
    best = models["images"].searcher(PHOTOS[:1]).ids[0].tolist()
    image = files / "0.png"
    ids = lambda *options: [  # noqa: E731
        neighbour["id"] for neighbour in json.loads(run("--json", image, *options))[0]["neighbours"]
    ]
    assert ids("--k", 3) == best[:3]
    assert ids("--exclude", best[0], "--exclude", best[2])[:2] == [best[1], best[3]]
    assert len(ids("--allow", "label=1", "--deny", "label=2")) == TOP_K


def test_where_nothing_is_found_it_says_so_and_a_tag_that_nothing_has_is_named(run, files):
    nothing = ("--allow", "label=1", "--deny", "label=1")
    assert run(files / "0.png", *nothing).split()[-2:] == ["0", "items"]
    (answer,) = json.loads(run("--json", files / "0.png", *nothing))
    assert answer["neighbours"] == []
    few = run("--json", files / "0.png", "--k", 10_000)
    assert len(json.loads(few)[0]["neighbours"]) == NUM_ITEMS
    with pytest.raises(ValueError, match=r"0\.png: .*deny_tags.* label=0, .*Received.*label=cät"):
        run(files / "0.png", "--deny", "label=cät")


def test_a_token_is_read_from_its_file(files, fakes):
    (files / "token").write_text("s3cret\n")
    arguments = ["--model", "birds", "--token-file", str(files / "token"), str(files / "0.png")]
    app = typer.Typer()
    app.command()(query)
    CliRunner().invoke(app, ["--address", fakes["gRPC"].address, *arguments])
    assert fakes["gRPC"].model.metadata[-1]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["text.png"], ValueError, "text.png: expected the bytes of"),
        (["none.png"], FileNotFoundError, "A query must be an image file"),
        (["0.png", "--exclude", "a"], ValueError, "--exclude must be whole numbers"),
        (["0.png", "--k", 10_001], ValueError, r"0\.png: k: expected a number in 1 .. 10000"),
        (["0.png", "--ca-file", "none.pem"], FileNotFoundError, "PEM file of tls must exist"),
        (["0.png", "--ca-file", "0.png"], ValueError, "must be in PEM format"),
        (["0.png", "--token-file", "none"], FileNotFoundError, "--token-file must be a file"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, files, monkeypatch, arguments, error, words):
    monkeypatch.chdir(files)
    with pytest.raises(error, match=words):
        run(*arguments)


def test_a_refusal_names_the_file_and_a_missing_server_its_address(run, files):
    (files / "cut.png").write_bytes(PHOTOS[0][:60])
    with pytest.raises(ValueError, match=r"cut\.png: "):
        run(files / "cut.png")
    with pytest.raises(ValueError, match="localhost:1 cannot be reached"):
        run(files / "0.png", address="localhost:1")
    with pytest.raises(ValueError, match=r"localhost:\d+ has no such model.*Latest\(fish\)"):
        run(files / "0.png", name="fish")


def test_a_shard_asked_alone_says_so(shards, tmp_path):
    np.save(tmp_path / "query.npy", np.ones((1, WIDTH), np.float32))
    group = shards()
    app = typer.Typer()
    app.command()(query)

    def ask(*servers):
        addresses = [word for one in servers for word in ("--address", one.address)]
        arguments = [*addresses, "--model", "birds", str(tmp_path / "query.npy")]
        return CliRunner().invoke(app, arguments)

    (second,) = group.servers[1]
    assert "shard 1 of 3: its answers are of this part" in ask(second).stderr
    assert not ask(*(server for (server,) in group.servers)).stderr
