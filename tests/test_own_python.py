"""A Python of our own beside this one runs the package, and nothing that lies about."""

import os
import subprocess
import sys
from pathlib import Path

from tfpqn._command_line import own_python


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    """However the folder came onto this process's path."""
    for name in ("wave", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger runs')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path)]))
    program = "import importlib.util, json, wave; print(importlib.util.find_spec('tfpqn').origin)"
    command = own_python(program)
    origin = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert origin == sys.modules["tfpqn"].__file__


def test_package_that_lies_in_the_current_folder_is_found_there_last(monkeypatch):
    root = Path(sys.modules["tfpqn"].__file__).parent.parent
    monkeypatch.chdir(root)
    command = own_python("print(sys.path[-1], *sys.argv[1:])", "a b", "c")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output == f"{root} a b c\n"


def test_a_current_folder_that_was_removed_is_no_obstacle(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    command = own_python("import tfpqn; print('runs')")
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "runs\n"
