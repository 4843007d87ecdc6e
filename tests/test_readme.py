"""The README's code blocks do what they say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_program_on_the_first_screen_runs_twice_and_finds_the_right_digit(
    tmp_path: Path,
) -> None:
    program, *_ = read_blocks("python")
    assert len(program.splitlines()) <= 20
    check = (
        "assert codes_shape == (1437, 4)\n"
        "assert ids.shape == (1, 5) and ids.dtype == 'int64'\n"
        "assert scores.shape == (1, 5) and scores.dtype == 'float32'\n"
        "labels = dict(zip(splits.database.ids, splits.database.labels))\n"
        "assert [labels[i] for i in ids[0]] == [splits.query.labels[0]] * 5\n"
    )
    script = f"{program}\n{program}\ncodes_shape = index.codes.shape\n{check}"
    finished = run([sys.executable, "-c", script], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "finds [" in finished.stdout


@pytest.mark.slow
def test_the_program_for_clips_finds_digits_that_move_the_same_way(tmp_path: Path) -> None:
    _, program, _ = read_blocks("python")
    check = (
        "assert index.codes.shape == (len(splits.database), 4)\n"
        "assert ids.shape == scores.shape == (1, 5)\n"
        "figures = tfpqn.training.evaluate(network, splits)\n"
        "assert figures['mAP'] > 0.3, figures['mAP']\n"
    )
    # Where ten epochs end depends on the start.
    seed = "import keras\nkeras.utils.set_random_seed(1)\n"
    finished = run([sys.executable, "-c", f"{seed}{program}\n{check}"], tmp_path)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_the_commands_run_in_the_order_given(tmp_path: Path) -> None:
    from tfpqn.datasets import load_protocol

    image = load_protocol("digits").load().query.encoded_image(0)
    (tmp_path / "digit.png").write_bytes(image)
    (block,) = read_blocks("bash")
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "tfpqn"
        finished = run([sys.executable, "-m", "tfpqn", *arguments], tmp_path)
        assert finished.returncode == 0, f"{line}\n{finished.stderr}"
    assert "score" in finished.stdout


@pytest.mark.slow
def test_the_program_that_asks_a_server_is_answered(tmp_path: Path) -> None:
    from tests.export.tiny import make_images, make_network, make_searcher
    from tfpqn.export import load_searcher, save_searcher
    from tfpqn.export.server import running_server

    folder = save_searcher(make_searcher(make_network()), tmp_path / "digits" / "1")
    (tmp_path / "digit.png").write_bytes(make_images(1)[0])
    *_, program = read_blocks("python")
    check = "print(ids.tolist(), more.ids.shape)"
    with running_server(folder.parent, port=0, rest_api_port=None) as server:
        program = program.replace("localhost:8500", f"localhost:{server.port}")
        finished = run([sys.executable, "-c", f"{program}\n{check}"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    ids, _ = load_searcher(folder)(make_images(1))
    assert finished.stdout.strip() == f"{ids.tolist()} (1, {ids.shape[1]})"
