"""A command run in this process, and one run that all commands share."""

import contextlib
import io
import sys
from typing import Any, NamedTuple

import pytest

from tfpqn.cli import main
from tfpqn.datasets import load_protocol

SMALL = ("--bits", 16, "--embedding-dim", 16, "--epochs", 1, "--batch-size", 64)


class Result(NamedTuple):
    """Exit status and output of one command."""

    status: Any
    output: str
    error: str


def run_command(*arguments):
    output, error, former = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["tfpqn", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            main()
    except SystemExit as stop:
        return Result(stop.code, output.getvalue(), error.getvalue())
    finally:
        sys.argv = former
    raise AssertionError("main must exit")


def succeed(*arguments):
    result = run_command(*arguments)
    assert result.status == 0, result.error
    return result


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The road from training to an export, and query images."""
    folder = tmp_path_factory.mktemp("cli")
    run, index, model = folder / "run", folder / "index", folder / "models" / "1"
    succeed("train", "--protocol", "digits", *SMALL, "--run-dir", run)
    succeed("evaluate", "--run-dir", run)
    succeed("index", "--run-dir", run, "--output", index)
    succeed("export", "--run-dir", run, "--index", index, "--output", model, "--top-k", 4)
    query = load_protocol("digits").load().query
    (folder / "digit.png").write_bytes(query.encoded_image(0))
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture
def photos(tmp_path):
    """Label folders of digits with names, and files that are no images."""
    images = load_protocol("digits").load().query
    for position in range(80):
        label = ("cat", "dog")[int(images.labels[position]) % 2]
        path = tmp_path / "photos" / label / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "photos" / "cat" / "phone.heic").touch()
    return tmp_path / "photos"
