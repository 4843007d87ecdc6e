"""Laws of locks: one writer at a time, and none left behind by a process that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfpqn.files import locks
from tfpqn.files.locks import exclusive

# The file alone: importing the package would import Keras.
HOLD = """
import sys
from locks import exclusive
with exclusive(sys.argv[1], "index", inside=sys.argv[2] == "True"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("inside", [False, True])
def test_another_process_is_refused_until_the_holder_is_killed(tmp_path, inside):
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", HOLD, str(folder), str(inside)]
    environment = {"PYTHONPATH": str(Path(locks.__file__).parent)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=r"index must have one writer.*folder"):
            with exclusive(folder, "index", inside=inside):
                pytest.fail("the block ran")
        holder.kill()
    with exclusive(folder, "index", inside=inside):
        pass
    assert not [path for path in tmp_path.rglob("*") if path != folder]


def test_the_same_thread_is_refused_too_and_a_link_names_the_same_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with exclusive(tmp_path / "link", "index"), exclusive(tmp_path / "other", "index"):
        with pytest.raises(BlockingIOError):
            with exclusive(tmp_path / "folder", "index"):
                pytest.fail("the block ran")


def test_a_lock_file_that_was_removed_while_it_was_opened_locks_nothing(tmp_path, monkeypatch):
    """Between opening and locking the former holder may remove the file: it is made anew."""
    try_lock, removed = locks.try_lock, []

    def remove_first(descriptor):
        if not removed:
            removed.append((tmp_path / ".folder.lock").unlink())
        return try_lock(descriptor)

    monkeypatch.setattr(locks, "try_lock", remove_first)
    with exclusive(tmp_path / "folder", "index"):
        with pytest.raises(BlockingIOError):
            with exclusive(tmp_path / "folder", "index"):
                pytest.fail("the block ran")


def test_a_lock_that_another_user_left_behind_is_taken_and_one_in_use_is_not(tmp_path, monkeypatch):
    """Others may read the file and not write to it, as with most users' permissions."""
    open_, path = os.open, tmp_path / ".folder.lock"

    def open_as_another(path, flags, *mode):
        if flags & os.O_RDWR and os.path.exists(path):
            raise PermissionError(13, "Permission denied", path)
        return open_(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_as_another)
    with exclusive(tmp_path / "folder", "index"):
        assert path.stat().st_mode & 0o444 == 0o444
        with pytest.raises(BlockingIOError, match="one writer at a time"):
            with exclusive(tmp_path / "folder", "index"):
                pytest.fail("the block ran")
    path.touch()
    with exclusive(tmp_path / "folder", "index"):
        pass
    assert not path.exists()


def test_a_lock_that_another_user_lets_nobody_read_is_that_of_another_writer(tmp_path, monkeypatch):
    (tmp_path / ".folder.lock").touch()

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BlockingIOError, match="one writer at a time"):
        with exclusive(tmp_path / "folder", "index"):
            pytest.fail("the block ran")


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"index must lie where files can be written.*file/index"):
        with exclusive(tmp_path / "file" / "index", "index"):
            pytest.fail("the block ran")
