"""Laws of atomic writing: a reader sees the former version or the new one, and nothing else."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from tfpqn.files import atomic
from tfpqn.files.atomic import atomic_directory, sha256_of_file, write_file_atomically

EITHER_RENAME = pytest.mark.parametrize("one_step", [True, False])


def without_exchange(monkeypatch):
    """As on a system that has no renameat2."""
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)


def write_version(path, text, overwrite=False):
    with atomic_directory(path, overwrite=overwrite) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(text)


def version_of(path):
    return (path / "inner" / "file").read_text()


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_folder_appears_whole_and_only_at_the_end_with_the_permissions_of_mkdir(tmp_path):
    path = tmp_path / "parent" / "folder"
    with atomic_directory(path) as folder:
        assert folder.parent == path.parent
        (folder / "file").write_text("new")
        assert not path.exists()
    assert names_in(path.parent) == ["folder"]
    assert (path / "file").read_text() == "new"
    assert path.stat().st_mode == path.parent.stat().st_mode


@EITHER_RENAME
def test_overwriting_replaces_the_whole_folder_and_follows_a_link(tmp_path, monkeypatch, one_step):
    if not one_step:
        without_exchange(monkeypatch)
    write_version(tmp_path / "folder", "former", overwrite=True)
    (tmp_path / "folder" / "only in the former").touch()
    (tmp_path / "link").symlink_to("folder")
    write_version(tmp_path / "link", "new", overwrite=True)
    assert names_in(tmp_path) == ["folder", "link"]
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "folder") == ["inner"]
    assert version_of(tmp_path / "folder") == "new"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_exception_leaves_the_former_version_and_no_trace(tmp_path, error):
    write_version(tmp_path / "folder", "former")
    with pytest.raises(type(error)):
        with atomic_directory(tmp_path / "folder", overwrite=True) as folder:
            (folder / "file").write_text("half")
            raise error
    assert names_in(tmp_path) == ["folder"]
    assert version_of(tmp_path / "folder") == "former"


def test_what_is_there_is_refused_on_entry_and_a_file_always(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError, match=r"overwrite=True.*folder.*exists already"):
        with atomic_directory(tmp_path / "folder"):
            pytest.fail("the block ran")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        write_version(tmp_path / "file", "new", overwrite=True)
    assert names_in(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("look", [1, 2])
def test_folder_that_appeared_meanwhile_is_refused_at_the_end(tmp_path, monkeypatch, look):
    """In the block, or between the last look and the renaming."""
    require, looks = atomic._require_replaceable, []

    def overtaken(target, overwrite):
        require(target, overwrite)
        looks.append(target)
        if len(looks) == look:
            (target / "other").mkdir(parents=True)

    monkeypatch.setattr(atomic, "_require_replaceable", overtaken)
    with pytest.raises(FileExistsError, match="exists already"):
        write_version(tmp_path / "folder", "new")
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == ["other"]


def test_full_disk_leaves_the_former_version_and_no_trace(tmp_path, monkeypatch):
    write_version(tmp_path / "folder", "former")
    write_file_atomically(tmp_path / "file", b"former")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_version(tmp_path / "folder", "new", overwrite=True)
    with pytest.raises(OSError, match="No space left"):
        write_file_atomically(tmp_path / "file", b"new")
    assert names_in(tmp_path) == ["file", "folder"]
    assert version_of(tmp_path / "folder") == "former"
    assert (tmp_path / "file").read_bytes() == b"former"


def test_failing_second_rename_brings_the_former_back(tmp_path, monkeypatch):
    write_version(tmp_path / "folder", "former")
    rename = os.rename

    def fail_into_place(source, target):
        if ".partial-" in Path(source).name:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    without_exchange(monkeypatch)
    monkeypatch.setattr(os, "rename", fail_into_place)
    with pytest.raises(OSError, match="Input/output"):
        write_version(tmp_path / "folder", "new", overwrite=True)
    assert names_in(tmp_path) == ["folder"]
    assert version_of(tmp_path / "folder") == "former"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    """Whoever holds no lock is gone, whatever the process ids of other machines mean here."""
    left = [f".folder.partial-{os.getpid()}-0a1b2c3d", f".1.partial-{2**40}-0a1b2c3d"]
    kept = [".folder.partial-of-a-user", ".folder.partial-7-0a.txt", ".folder.former-7-0a"]
    for name in left + kept:
        (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / ".file.partial-7-0a").touch()
    os.mkfifo(tmp_path / ".folder.partial-7-0b")
    write_version(tmp_path / "folder", "new")
    assert set(names_in(tmp_path)) == {*kept, ".folder.partial-7-0b", "folder"}


def test_lock_protects_a_writer_whose_process_id_is_unknown_here(tmp_path):
    """Also the writer of another version beside: both go on."""
    with atomic_directory(tmp_path / "1") as slow:
        elsewhere = slow.rename(tmp_path / f".1.partial-{2**40}-0a1b2c3d")
        write_version(tmp_path / "2", "new")
        assert elsewhere.exists()
        elsewhere.rename(slow)
    assert names_in(tmp_path) == ["1", "2"]


def test_writer_whose_temporary_is_taken_before_it_is_locked_makes_another(tmp_path, monkeypatch):
    """What is made and not yet locked looks abandoned to a writer beside it."""
    open_, made = os.open, []

    def tidied_first(path, *flags, **options):
        if not made and ".folder.partial-" in str(path):
            made.append(path)
            write_version(tmp_path / "beside", "new")
            assert not Path(path).exists()
        return open_(path, *flags, **options)

    monkeypatch.setattr(os, "open", tidied_first)
    write_version(tmp_path / "folder", "new")
    assert made
    assert names_in(tmp_path) == ["beside", "folder"]


def test_what_is_replaced_keeps_its_permissions(tmp_path):
    """Even if the files have other names; until all is in place nobody else can read them."""
    path = tmp_path / "folder"
    write_version(path, "former")
    (path / "former").touch()
    path.chmod(0o2770)
    (path / "inner" / "file").chmod(0o640)
    (path / "former").chmod(0o644)
    with atomic_directory(path, overwrite=True) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "inner").mkdir()
        for name in ("inner/file", "other"):
            (folder / name).write_text("new")
    modes = [oct((path / name).stat().st_mode & 0o7777) for name in ("", "inner/file", "other")]
    assert modes == ["0o2770", "0o640", "0o640"]
    assert (path / "inner").stat().st_mode & 0o777 == 0o770
    write_file_atomically(path / "inner" / "file", b"newer")
    assert (path / "inner" / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_file_of_another_user_needs_no_permission_to_change_it(tmp_path, monkeypatch):
    """As where a part of an index, which a group shares, goes on into the next version."""
    path = tmp_path / "folder"
    write_version(path, "former")
    owned, chmod = (path / "inner" / "file").stat(), os.chmod

    def refuse(path, *mode, **options):
        if os.path.samestat(os.stat(path), owned):
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        chmod(path, *mode, **options)

    monkeypatch.setattr(os, "chmod", refuse)
    with atomic_directory(path, overwrite=True) as folder:
        (folder / "inner").mkdir()
        os.link(path / "inner" / "file", folder / "inner" / "file")
    assert version_of(path) == "former"


def test_file_is_written_whole_and_replaced_and_its_digest_is_of_all_bytes(tmp_path):
    path = tmp_path / "parent" / "file"
    for data in (b"former", b"", bytes(range(251)) * 10_000):
        write_file_atomically(path, data)
        assert path.read_bytes() == data
        assert sha256_of_file(path) == hashlib.sha256(data).hexdigest()
    assert names_in(path.parent) == ["file"]
