"""`tfpqn serve`: one line when ready, a clean end, one line for an error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.calls import Caller, call_rest
from tests.serving.models import make_inputs
from tfpqn.cli.serve import serve

ROOT = Path(__file__).parents[2]
PROGRAM = "import typer; from tfpqn.cli.serve import serve; typer.run(serve)"


@pytest.mark.slow
@pytest.mark.parametrize("stop", (signal.SIGTERM, signal.SIGINT))
def test_the_command_serves_until_a_signal_and_ends_with_status_0(own_folder, tmp_path, stop):
    model = own_folder
    parameters = tmp_path / "batching.pbtxt"
    parameters.write_text("max_batch_size { value: 8 }\nbatch_timeout_micros { value: 1000 }\n")
    arguments = [
        *("--model-base-path", model.folder, "--port", 0, "--rest-api-port", 0),
        *("--enable-batching", "--batching-parameters-file", parameters),
        *("--version-label", "stable=1", "--ui"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith(f"Serving {model.folder.name} (version 1): gRPC on 127.0.0.1:"), line
        port, rest_port = (
            int(part.split(":")[1].split()[0].strip(",")) for part in line.split(" on ")[1:]
        )
        assert process.stdout.readline() == f"Search page: http://127.0.0.1:{rest_port}/\n"
        assert "<title>" in call_rest(rest_port, "/").text
        with Caller(port) as caller:
            inputs = make_inputs(model, "search_by_embedding", 2)
            caller.predict(model.folder.name, "search_by_embedding", inputs, label="stable")
        assert call_rest(rest_port, f"/v1/models/{model.folder.name}").status_code == 200
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert rest == ""
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, FileNotFoundError, "base path must be a folder"),
        ({"version_label": ["stable"]}, ValueError, "--version-label must be LABEL=NUMBER"),
        ({"batching_parameters_file": Path("x")}, ValueError, "come with --enable-batching"),
        ({"allowed_host": ["birds:80"]}, ValueError, "An allowed host must be a name"),
    ],
)
def test_wrong_options_are_one_error(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        serve(tmp_path / "birds", **options)
