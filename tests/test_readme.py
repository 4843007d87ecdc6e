"""The programs and commands of the README do what they say; tests/docs has those of the site."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read_programs(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(command, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_readme_is_one_page():
    assert len(README.splitlines()) <= 100


def test_the_program_on_the_first_screen_finds_the_right_digit(tmp_path):
    program, _ = read_programs(README)
    assert len(program.splitlines()) <= 20
    check = (
        "assert index.codes.shape == (1437, 4)\n"
        "assert found.ids.shape == (1, 5) and found.ids.dtype == 'int64'\n"
        "assert found.scores.shape == (1, 5) and found.scores.dtype == 'float32'\n"
        "assert found.labels.tolist() == [[str(splits.query.labels[0])] * 5]\n"
    )
    finished = run([sys.executable, "-c", f"{program}\n{check}"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "finds [" in finished.stdout


@pytest.mark.slow
def test_the_commands_for_photos_run_in_the_order_given(tmp_path):
    from tfpqn.datasets import load_protocol

    images = load_protocol("digits").load().train
    for position in range(60):
        path = tmp_path / "photos" / str(images.labels[position]) / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    (tmp_path / "some.jpg").write_bytes(images.encoded_image(0))
    section = README.partition("## Your own photos")[2].partition("\n## ")[0]
    commands = re.findall(r"^    tfpqn (.*)$", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "train",
        "evaluate",
        "index",
        "export",
        "search",
    ]
    for command in commands:
        finished = run([sys.executable, "-m", "tfpqn", *shlex.split(command)], tmp_path)
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"
    assert "label" in finished.stdout


@pytest.mark.slow
def test_the_program_that_asks_a_server_is_answered(tmp_path):
    from tests.export.tiny import make_images, make_network, make_searcher
    from tfpqn.export import load_searcher, save_searcher
    from tfpqn.export.server import running_server

    folder = save_searcher(make_searcher(make_network()), tmp_path / "photos" / "1")
    (tmp_path / "some.jpg").write_bytes(make_images(1)[0])
    *_, program = read_programs(README)
    check = "print(found.ids.tolist(), more.ids.shape)"
    with running_server(folder.parent, port=0, rest_api_port=None) as server:
        program = program.replace("localhost:8500", f"localhost:{server.port}")
        finished = run([sys.executable, "-c", f"{program}\n{check}"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    ids, _ = load_searcher(folder)(make_images(1))
    assert finished.stdout.strip() == f"{ids.tolist()} (1, {ids.shape[1]})"
