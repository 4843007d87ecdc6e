"""What reaches the terminal: text as it is, and no more than was asked for."""

import gc
import io
import os
import signal
import sys
import time

import pytest

from tfpqn import _command_line
from tfpqn._text import counted
from tfpqn.cli import entry_point
from tfpqn.cli.answers import print_answers
from tfpqn.cli.commands import app
from tfpqn.cli.shared import PlainConsole, console, report_skipped

# Id -> how it is shown.
NAMES = {
    "bracket[red].jpg": "bracket[red].jpg",
    "[/]": "[/]",
    "[": "[",
    ":cat:": ":cat:",
    "\x1b[31mred": r"\x1b[31mred",
    "two\nlines": r"two\nlines",
    "gnp.\u202egpj": r"gnp.\u202egpj",
    os.fsdecode(b"\xff"): r"\udcff",
    "Ä ü 猫": "Ä ü 猫",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=ascii)
def test_names_are_shown_as_they_are_and_never_obeyed(name, shown):
    answer = {"file": name, "neighbours": [{"id": name, "score": 0.5}]}
    console = PlainConsole(file=io.StringIO(), width=100)
    console.print(f"Written to {name}")
    print_answers([answer], False, console)
    text = console.file.getvalue()
    assert text.count(shown) == 3
    assert "\x1b" not in text


def test_skipped_files_are_shown_as_they_are(capfd):
    class Items:
        skipped = dict.fromkeys(NAMES, "torn")
        passed_over = {".[red]\x1b": 2}

    report_skipped(Items())
    lines = capfd.readouterr().err.splitlines()
    assert r".[red]\x1b" in lines[0]
    assert lines[2:] == [f"  {name}: torn" for name in NAMES.values()]


def test_a_long_path_stays_in_one_line(capsys):
    path = "/".join(["photographs"] * 20)
    console.print(f"Written to {path} and {path}")
    assert capsys.readouterr().out == f"Written to {path} and {path}\n"


@pytest.mark.parametrize(
    ("number", "things", "text"),
    [
        (1, "epochs", "1 epoch"),
        (1, "queries", "1 query"),
        (0, "items", "0 items"),
        (2000, "queries", "2,000 queries"),
    ],
)
def test_one_thing_is_counted_in_the_singular(number, things, text):
    assert counted(number, things) == text


def run_main(monkeypatch, capsys, command, *arguments):
    monkeypatch.setattr(entry_point, "app", command)
    monkeypatch.setattr(sys, "argv", ["tfpqn", *arguments])
    with pytest.raises(SystemExit) as stop:
        entry_point.main()
    return stop.value.code, capsys.readouterr().err


def test_an_error_shows_what_it_names_as_it_is(monkeypatch, capsys):
    def fail(standalone_mode):
        raise ValueError("Received: '\x1b]0;title\x07 [red]'")

    status, error = run_main(monkeypatch, capsys, fail)
    assert (status, error) == (2, "tfpqn: error: Received: '\\x1b]0;title\\x07 [red]'\n")


@pytest.mark.parametrize("number", entry_point.STOP_SIGNALS)
@pytest.mark.parametrize("in_a_callback", [False, True])
def test_a_stopped_command_says_so_and_how_to_go_on(monkeypatch, capsys, number, in_a_callback):
    def collect(phase, info):
        if phase == "start":
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    def wait(standalone_mode):
        if in_a_callback:
            # Python lets no exception out of it.
            gc.callbacks.append(collect)
            gc.collect()
            gc.callbacks.remove(collect)
        else:
            os.kill(os.getpid(), number)
        time.sleep(10)

    former = signal.getsignal(number)
    status, error = run_main(monkeypatch, capsys, wait, "train", "--run-dir", "my run")
    assert status == 128 + number
    assert error == (
        f"tfpqn: stopped by {number.name}; the same command goes on from the last checkpoint, if "
        "there is one: tfpqn train --run-dir 'my run'\n"
    )
    assert signal.getsignal(number) == former
    status, error = run_main(monkeypatch, capsys, wait, "index")
    assert error == f"tfpqn: stopped by {number.name}\n"


def test_a_stopped_job_goes_on_with_its_missing_parts(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfpqn", "encode", "--images", "my photos"])
    sentence = entry_point._describe_stop(signal.SIGTERM)
    assert sentence.endswith("with the parts that are missing: tfpqn encode --images 'my photos'")


def test_help_does_not_stand_on_docstrings_which_python_can_be_told_to_drop():
    without = [command for command in app.registered_commands if not command.help]
    assert not without and app.info.help


def test_tensorflow_tells_of_a_machine_without_a_gpu_only_if_it_is_asked_to(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    _command_line.quieten_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    _command_line.quieten_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
